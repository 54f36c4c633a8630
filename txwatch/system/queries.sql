-- name: first_alert
-- When the first alert about a live transaction was sent; where no chat is set up, when it was raised.
SELECT min(coalesce(sent_at, CASE WHEN chat_id IS NULL THEN created_at END))
FROM alerts
LEFT JOIN alert_deliveries USING (alert_key)
WHERE created_at >= %(since)s AND NOT late AND alert_key NOT LIKE '%%:%%'


-- name: found
-- The anomalies that were scored after a moment, one of each campaign, for the terminal.
SELECT txid, seen_at, score, reasons -> 0 ->> 'text', scored_at
FROM unusual_scores
WHERE scored_at > %(after)s AND seen_at >= %(after)s - interval '1 hour'
ORDER BY scored_at
LIMIT %(limit)s


-- name: progress
-- Of the last day: transactions in windows with a context, and so with features; those windows; windows that are over.
-- Then the live transactions since the start, and the p99 in ms from seen to durable of those of the last minute.
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


-- name: told_peel_hops
-- Of these transactions, those that some alert tells as a hop of its coins.
SELECT count(*) FROM unnest(%(txids)s::text[]) AS txid WHERE EXISTS (
    SELECT FROM alert_updates WHERE update_key = 'hop:' || txid
)


-- name: told_campaign_transactions
-- Of these transactions, those that some alert counts.
SELECT count(*) FROM unnest(%(txids)s::text[]) AS planted (txid) WHERE EXISTS (
    SELECT FROM campaign_transactions WHERE campaign_transactions.txid = planted.txid
)
