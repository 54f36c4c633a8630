SELECT requests.ended_at, kinds[1], severity
FROM telegram_requests AS requests
JOIN alert_deliveries AS deliveries ON deliveries.request_id = requests.id
JOIN alerts USING (alert_key)
WHERE requests.chat_id = %(chat_id)s AND purpose = 'alert' AND started_at > %(now)s - interval '1 hour'
  AND ended_at IS NOT NULL AND state IN ('sent', 'uncertain')
