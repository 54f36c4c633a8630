-- name: events_after
SELECT
    sequence,
    CASE WHEN update_key IS NOT NULL THEN
        json_build_object('update_key', update_key, 'text', text, 'created_at', updates.created_at)
    END AS update,
    CASE WHEN starts_with(update_key, 'kind:') THEN substr(update_key, 6) END AS kind,
    alert_key, kinds, severity, reasons, late, seen_at, alerts.created_at, model_version,
    (SELECT value_sat FROM transactions WHERE txid = alert_key) AS value_sat, usd_price, usd_price_at
FROM alert_stream
JOIN alerts USING (alert_key)
LEFT JOIN alert_updates AS updates USING (alert_key, update_key)
WHERE sequence > %(after)s
ORDER BY sequence
LIMIT %(limit)s


-- name: is_unnumbered
SELECT EXISTS (SELECT FROM alert_stream WHERE sequence IS NULL)


-- name: kept_numbers
SELECT coalesce((SELECT min(sequence) FROM alert_stream), given + 1), given
FROM (SELECT coalesce(pg_sequence_last_value('alert_stream_numbers'), 0) AS given) AS numbers


-- name: number_events
-- A CTE, because that is computed once: each event takes one number.
WITH waiting AS (
    SELECT id FROM alert_stream WHERE sequence IS NULL ORDER BY id LIMIT %(limit)s
),
numbered AS MATERIALIZED (
    SELECT id, nextval('alert_stream_numbers') AS next FROM waiting
)
UPDATE alert_stream SET sequence = next FROM numbered WHERE alert_stream.id = numbered.id


-- name: traffic
SELECT
    %(now)s::timestamptz AS at,
    count(*) FILTER (WHERE seen_at > %(now)s - interval '10 seconds') / 10.0::float8 AS transactions_per_second,
    max(seen_at) AS newest_seen_at,
    (SELECT committed_through FROM ingest_lease) AS committed_through
FROM transactions
WHERE seen_at > %(now)s - interval '1 minute'
