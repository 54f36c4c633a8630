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
