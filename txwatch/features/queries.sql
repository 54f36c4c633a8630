-- name: address_activity
-- One bucket for each address and window in [start, end), of one shard of the addresses. An address counts once for a
-- transaction: its coins are added up within each one first, which takes no sorting.
-- Hostile amounts may sum to more than a BIGINT holds: they stop at its end.
SELECT
    address,
    date_bin('5 minutes', seen_at, 'epoch') AS window_start,
    count(*)::integer AS tx_count,
    least(sum(received), 9223372036854775807)::bigint AS received_sat,
    least(sum(spent), 9223372036854775807)::bigint AS spent_sat,
    min(seen_at) AS first_seen_at,
    max(seen_at) AS last_seen_at
FROM transactions
CROSS JOIN LATERAL (
    SELECT address, sum(received) AS received, sum(spent) AS spent
    FROM (
        SELECT addr AS address, 0 AS received, coalesce(value, 0) AS spent
        FROM jsonb_to_recordset(inputs) AS coin (addr text, value bigint)
        UNION ALL
        SELECT addr, value, 0 FROM jsonb_to_recordset(outputs) AS coin (addr text, value bigint)
    ) AS coins
    WHERE address IS NOT NULL
        AND (%(shards)s = 1 OR abs(mod(hashtextextended(address, 0), %(shards)s)) = %(shard)s)
    GROUP BY address
) AS of_transaction
WHERE seen_at >= %(start)s AND seen_at < %(end)s
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
-- What changed, and what was counted for the first time: that a window has no traffic is known of it as well.
INSERT INTO address_windows (window_start, publication)
SELECT window_start, %(publication)s
FROM generate_series(%(start)s, %(end)s - interval '5 minutes', interval '5 minutes') AS w (window_start)
WHERE window_start = ANY(%(changed)s::timestamptz[])
    OR NOT EXISTS (SELECT FROM address_windows AS known WHERE known.window_start = w.window_start)
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
AND (%(shards)s = 1 OR abs(mod(hashtextextended(address, 0), %(shards)s)) = %(shard)s)
AND NOT EXISTS (
    SELECT FROM staged_activity AS staged
    WHERE staged.address = stored.address AND staged.window_start = stored.window_start
    AND (staged.tx_count, staged.received_sat, staged.spent_sat, staged.first_seen_at, staged.last_seen_at)
        IS NOT DISTINCT FROM
        (stored.tx_count, stored.received_sat, stored.spent_sat, stored.first_seen_at, stored.last_seen_at)
)
RETURNING window_start


-- name: undo_superseded
-- What a publication superseded that never came to its end holds as before.
UPDATE address_activity
SET superseded = NULL
WHERE window_start >= %(start)s AND window_start < %(end)s AND superseded = %(publication)s


-- name: undo_written
-- What a publication wrote that never came to its end.
DELETE FROM address_activity
WHERE window_start >= %(start)s AND window_start < %(end)s AND written = %(publication)s
