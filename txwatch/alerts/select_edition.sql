-- What was confirmed was not replaced, whatever had seemed so before; nor was what another one replaced that lost its
-- own confirmation in a chain split.
SELECT
    message_id,
    sent_at,
    coalesce(array_agg(text ORDER BY created_at, update_key) FILTER (WHERE holds), '{}'),
    max(created_at)
FROM (
    SELECT
        message_id, sent_at, text, alert_updates.created_at, update_key,
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
    WHERE chat_id = %s AND alert_key = %s
) AS news
GROUP BY message_id, sent_at
