-- name: address_activity
-- One bucket for each address and window in [start, end): how often the address took part, and with how much.
-- An address on both sides of a transaction, or twice on one, counts once for it.
-- Nothing keeps a stranger from sending what sums to more than a BIGINT holds; no real address comes near its end.
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


-- name: insert_network_baseline
-- Write a bucket of the network, unless the newest version holds the same.
INSERT INTO network_baseline (
    window_start, context_version, tx_count, value_sat, kind_counts, value_histogram, fee_rate_histogram,
    publication, tx_count_1h, tx_count_24h, windows_24h, kind_counts_1h, kind_counts_24h, p10_value_sat_1h,
    median_value_sat_1h, p90_value_sat_1h, p99_value_sat_1h, p10_fee_rate_1h, median_fee_rate_1h,
    p90_fee_rate_1h, p99_fee_rate_1h, p10_value_sat_24h, median_value_sat_24h, p90_value_sat_24h,
    p99_value_sat_24h, p10_fee_rate_24h, median_fee_rate_24h, p90_fee_rate_24h, p99_fee_rate_24h
) VALUES (
    %(window_start)s, %(context_version)s, %(tx_count)s, %(value_sat)s, %(kind_counts)s, %(value_histogram)s,
    %(fee_rate_histogram)s, %(publication)s, %(tx_count_1h)s, %(tx_count_24h)s, %(windows_24h)s, %(kind_counts_1h)s,
    %(kind_counts_24h)s, %(p10_value_sat_1h)s, %(median_value_sat_1h)s, %(p90_value_sat_1h)s,
    %(p99_value_sat_1h)s, %(p10_fee_rate_1h)s, %(median_fee_rate_1h)s, %(p90_fee_rate_1h)s,
    %(p99_fee_rate_1h)s, %(p10_value_sat_24h)s, %(median_value_sat_24h)s, %(p90_value_sat_24h)s,
    %(p99_value_sat_24h)s, %(p10_fee_rate_24h)s, %(median_fee_rate_24h)s, %(p90_fee_rate_24h)s,
    %(p99_fee_rate_24h)s
)


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
    version, lock_time, inputs::text, outputs::text
FROM transactions
WHERE seen_at >= %(start)s AND seen_at < %(end)s
ORDER BY seen_at, txid


-- name: select_network_contexts
-- The newest context of each of some windows.
SELECT DISTINCT ON (window_start)
    window_start, context_version, publication, tx_count_1h, tx_count_24h, windows_24h, kind_counts_1h, kind_counts_24h,
    p10_value_sat_1h, median_value_sat_1h, p90_value_sat_1h, p99_value_sat_1h, p10_fee_rate_1h,
    median_fee_rate_1h, p90_fee_rate_1h, p99_fee_rate_1h, p10_value_sat_24h, median_value_sat_24h,
    p90_value_sat_24h, p99_value_sat_24h, p10_fee_rate_24h, median_fee_rate_24h, p90_fee_rate_24h,
    p99_fee_rate_24h
FROM network_baseline
WHERE window_start = ANY(%(as_of)s) AND (%(version)s::bigint IS NULL OR context_version = %(version)s)
ORDER BY window_start, context_version DESC


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
