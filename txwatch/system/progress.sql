-- Of the last day: transactions in windows that have their context, which is when they have features; those windows;
-- windows that are over. Then the live transactions since the start, and the p99 of the last minute's in ms from seen to
-- durable.
WITH computed AS (
    SELECT DISTINCT ON (window_start) tx_count
    FROM network_baseline
    WHERE window_start > now() - interval '1 day'
    ORDER BY window_start, context_version DESC
)
SELECT
    (SELECT coalesce(sum(tx_count), 0)::bigint FROM computed),
    (SELECT count(*) FROM computed),
    (
        SELECT coalesce(
            extract(epoch FROM date_bin('5 minutes', now(), 'epoch') - date_bin('5 minutes', min(seen_at), 'epoch')), 0
        )::int / 300
        FROM transactions
        WHERE seen_at > now() - interval '1 day'
    ),
    (SELECT count(*) FROM transactions WHERE source = 'feed' AND seen_at >= %(since)s),
    (
        SELECT percentile_cont(0.99) WITHIN GROUP (ORDER BY extract(epoch FROM landed_at - seen_at)::float8 * 1000)
        FROM transactions
        WHERE source = 'feed' AND seen_at > now() - interval '1 minute'
    )
