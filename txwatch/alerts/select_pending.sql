SELECT alert_key, kinds[1] AS kind, severity, late, seen_at, created_at
FROM alert_deliveries
JOIN alerts USING (alert_key)
WHERE chat_id = %(chat_id)s AND state = 'pending'
ORDER BY seen_at, alert_key
LIMIT 20000
