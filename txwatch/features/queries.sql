-- name: address_activity
-- One bucket for each address and window in [start, end). An address counts once for a transaction.
-- Hostile amounts may sum to more than a BIGINT holds: they stop at its end.
SELECT
    address,
    window_start,
    count(DISTINCT txid)::integer AS tx_count,
    least(sum(received_sat), 9223372036854775807)::bigint AS received_sat,
    least(sum(spent_sat), 9223372036854775807)::bigint AS spent_sat,
    min(seen_at) AS first_seen_at,
    max(seen_at) AS last_seen_at
FROM (
    SELECT
        coin.addr AS address, date_bin('5 minutes', seen_at, 'epoch') AS window_start, txid, seen_at,
        0 AS received_sat, coalesce(coin.value, 0) AS spent_sat
    FROM transactions, jsonb_to_recordset(inputs) AS coin (addr text, value bigint)
    WHERE seen_at >= %(start)s AND seen_at < %(end)s
    UNION ALL
    SELECT coin.addr, date_bin('5 minutes', seen_at, 'epoch'), txid, seen_at, coin.value, 0
    FROM transactions, jsonb_to_recordset(outputs) AS coin (addr text, value bigint)
    WHERE seen_at >= %(start)s AND seen_at < %(end)s
) AS coins
WHERE address IS NOT NULL
GROUP BY address, window_start


-- name: address_context
-- The trailing day of each wanted address as of a window, as it stood at a publication: the one sum of every lane.
-- Lateral, so that each address costs one look into the index; as a join the planner may choose to read the whole day.
SELECT wanted.address, activity.*
FROM unnest(%(addresses)b::text[]) AS wanted (address)
CROSS JOIN LATERAL (
    SELECT
        sum(tx_count)::bigint AS tx_count,
        least(sum(received_sat), 9223372036854775807)::bigint AS received_sat,
        least(sum(spent_sat), 9223372036854775807)::bigint AS spent_sat,
        min(first_seen_at) AS first_seen_at,
        max(last_seen_at) AS last_seen_at
    FROM address_activity AS bucket
    WHERE bucket.address = wanted.address
    AND window_start > %(as_of)s - interval '24 hours' AND window_start <= %(as_of)s
    AND written <= %(publication)s AND (superseded IS NULL OR superseded > %(publication)s)
) AS activity
WHERE activity.tx_count IS NOT NULL


-- name: insert_staged_activity
-- Write staged address buckets, and what was published with them.
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


-- name: mark_windows
-- Also windows without traffic: that they were counted is known of them as well.
INSERT INTO address_windows (window_start, publication)
SELECT window_start, %(publication)s
FROM generate_series(%(start)s, %(end)s - interval '5 minutes', interval '5 minutes') AS w (window_start)
ON CONFLICT (window_start) DO UPDATE SET publication = excluded.publication


-- name: select_batch
-- The transactions of a window, as columns.
SELECT
    txid, (extract(epoch FROM seen_at) * 1000000)::bigint, value_sat, fee_sat, vsize, weight, size, rbf,
    version, lock_time, tip_height, inputs::text, outputs::text
FROM transactions
WHERE seen_at >= %(start)s AND seen_at < %(end)s
ORDER BY seen_at, txid


-- name: supersede_activity
-- What the staged buckets contradict is superseded, not changed: contexts that were published sum it still.
UPDATE address_activity AS stored
SET superseded = %(publication)s
WHERE window_start >= %(start)s AND window_start < %(end)s
AND superseded IS NULL
AND NOT EXISTS (
    SELECT FROM staged_activity AS staged
    WHERE staged.address = stored.address AND staged.window_start = stored.window_start
    AND (staged.tx_count, staged.received_sat, staged.spent_sat, staged.first_seen_at, staged.last_seen_at)
        IS NOT DISTINCT FROM
        (stored.tx_count, stored.received_sat, stored.spent_sat, stored.first_seen_at, stored.last_seen_at)
)
