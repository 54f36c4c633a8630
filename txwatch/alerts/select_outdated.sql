SELECT alert_key
FROM alert_deliveries
JOIN (SELECT alert_key, max(created_at) AS updated_at FROM alert_updates GROUP BY alert_key) AS updates USING (alert_key)
WHERE
    chat_id = %(chat_id)s
    AND state = 'sent'
    AND updated_at > coalesce(shown_through, '-infinity')
ORDER BY updated_at, alert_key
