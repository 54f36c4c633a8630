-- What was confirmed was not replaced, whatever had seemed so before; nor was what another one replaced that lost its
-- own confirmation in a chain split. The message may have been sent under a former id of the chat.
SELECT
    chat_id,
    message_id,
    sent_at,
    coalesce(array_agg(text ORDER BY created_at, update_key) FILTER (WHERE holds), '{}'),
    max(created_at)
FROM (
    SELECT
        chat_id, message_id, sent_at, text, alert_updates.created_at, update_key,
        update_key NOT LIKE 'replaced:%%' OR (
            replacing.confirmed AND NOT EXISTS (
                SELECT FROM confirmations JOIN blocks ON hash = block_hash WHERE txid = alert_key AND NOT stale
            )
        ) AS holds
    FROM alert_deliveries
    JOIN alert_updates USING (alert_key)
    CROSS JOIN LATERAL (
        SELECT EXISTS (
            SELECT FROM confirmations
            JOIN blocks ON hash = block_hash
            WHERE txid = substr(update_key, 10) AND NOT stale
        ) AS confirmed
    ) AS replacing
    WHERE chat_id = ANY(%(chats)s) AND alert_key = %(alert_key)s AND state = 'sent'
) AS news
GROUP BY chat_id, message_id, sent_at
ORDER BY chat_id = %(chat)s DESC, chat_id
LIMIT 1
