WITH written AS (
    INSERT INTO address_activity (
        address, window_start, tx_count, received_sat, spent_sat, first_seen_at, last_seen_at, written
    )
    SELECT
        address, window_start, tx_count, received_sat, spent_sat, first_seen_at, last_seen_at, %(publication)s
    FROM staged_activity AS staged
    WHERE NOT EXISTS (
        SELECT FROM address_activity AS stored
        WHERE stored.address = staged.address AND stored.window_start = staged.window_start
            AND stored.superseded IS NULL
    )
    RETURNING window_start
)
SELECT window_start, count(*) FROM written GROUP BY window_start
