SELECT
    alert_key, kinds[1], severity, late, seen_at, created_at,
    CASE WHEN right(reasons -> 0 ->> 'feature', 4) = '_sat' THEN coalesce((reasons -> 0 ->> 'value')::float8, 0) ELSE 0 END
FROM alert_deliveries
JOIN alerts USING (alert_key)
WHERE chat_id = %(chat_id)s AND state = 'pending'
ORDER BY seen_at, alert_key
LIMIT 20000
