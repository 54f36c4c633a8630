-- News of the last day: what could not be written into a message for longer is left out of it.
WITH updates AS (
    SELECT alert_key, max(created_at) AS updated_at
    FROM alert_updates
    WHERE created_at > %(now)s - interval '1 day'
    GROUP BY alert_key
)
SELECT alert_key
FROM updates
JOIN alert_deliveries USING (alert_key)
WHERE chat_id = %(chat_id)s AND state = 'sent' AND updated_at > coalesce(shown_through, '-infinity')
ORDER BY updated_at, alert_key
