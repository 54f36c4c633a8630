SELECT chat_id
FROM unnest(%(chats)s::text[]) AS wanted (chat_id)
LEFT JOIN telegram_chats USING (chat_id)
WHERE
    coalesce(retry_at, '-infinity') <= %(now)s
    AND coalesce(held_until, '-infinity') <= %(now)s
    AND EXISTS (
        SELECT 1 FROM alert_deliveries AS deliveries
        WHERE deliveries.chat_id = wanted.chat_id
        AND (state IN ('pending', 'sending') OR (state = 'uncertain' AND listed_in IS NULL))
    )
