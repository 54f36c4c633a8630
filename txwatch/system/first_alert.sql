-- When the first alert about a live transaction was told; raised, where no chat is set up.
SELECT min(coalesce(sent_at, CASE WHEN chat_id IS NULL THEN created_at END))
FROM alerts
LEFT JOIN alert_deliveries USING (alert_key)
WHERE created_at >= %(since)s AND NOT late AND alert_key NOT LIKE 'system:%%'
