-- name: alerts_after
SELECT
    alert_key, kinds, severity, reasons, late, seen_at, created_at, model_version,
    (SELECT value_sat FROM transactions WHERE txid = alert_key) AS value_sat, usd_price, usd_price_at
FROM alerts
WHERE created_at >= %(after)s AND (created_at, alert_key) > (%(after)s, %(key)s)
ORDER BY created_at, alert_key
LIMIT %(limit)s


-- name: traffic
SELECT
    %(now)s::timestamptz AS at,
    count(*) FILTER (WHERE seen_at > %(now)s - interval '10 seconds') / 10.0::float8 AS transactions_per_second,
    max(seen_at) AS newest_seen_at,
    (SELECT committed_through FROM ingest_lease) AS committed_through
FROM transactions
WHERE seen_at > %(now)s - interval '1 minute'
