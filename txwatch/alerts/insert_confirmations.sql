INSERT INTO alert_updates (alert_key, update_key, text, created_at)
SELECT
    alert_key,
    'confirmed:' || %(block_hash)s::text,
    '✅ confirmed in block ' || to_char(%(height)s::integer, 'FM999,999,999') || ', '
    || greatest(0, round(extract(epoch FROM %(now)s - seen_at) / 60)) || ' min after it was seen',
    %(now)s
FROM alerts
WHERE alert_key = ANY(%(txids)s::text[])
ORDER BY alert_key
ON CONFLICT DO NOTHING
