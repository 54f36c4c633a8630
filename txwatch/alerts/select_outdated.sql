-- News of the last day: what could not be written into a message for longer is left out of it. Of an alert that was told
-- under a former id of the chat and under the present one, the present message counts.
WITH updates AS (
    SELECT alert_key, max(created_at) AS updated_at
    FROM alert_updates
    WHERE created_at > %(now)s - interval '1 day'
    GROUP BY alert_key
)
SELECT alert_key
FROM updates
JOIN alert_deliveries AS told USING (alert_key)
WHERE
    chat_id = ANY(%(ids)s)
    AND state = 'sent'
    AND updated_at > coalesce(shown_through, '-infinity')
    AND (
        chat_id = %(chat_id)s
        OR NOT EXISTS (SELECT FROM alert_deliveries WHERE alert_key = told.alert_key AND chat_id = %(chat_id)s)
    )
ORDER BY updated_at, alert_key
