-- In order of key, so that two lanes that raise the same alerts lock rows in one order and cannot deadlock.
WITH raised AS (
    INSERT INTO alerts (alert_key, kinds, severity, reasons, late, seen_at, model_version, created_at)
    SELECT alert_key, kinds, severity, reasons, late, seen_at, model_version, created_at
    FROM jsonb_to_recordset(%(alerts)s::jsonb) AS given (
        alert_key text, kinds text[], severity text, reasons jsonb, late boolean, seen_at timestamptz,
        model_version text, created_at timestamptz
    )
    ORDER BY alert_key
    ON CONFLICT (alert_key) DO NOTHING
    RETURNING alert_key, severity
),
chats AS (
    -- A chat that is named by two of its ids is one.
    SELECT DISTINCT coalesce(moved_to, chat_id) AS chat_id
    FROM unnest(%(chats)s::text[]) AS named (chat_id)
    LEFT JOIN telegram_chats USING (chat_id)
),
addressed AS (
    INSERT INTO alert_deliveries (alert_key, chat_id)
    SELECT alert_key, chat_id
    FROM raised
    CROSS JOIN chats
    LEFT JOIN telegram_chats USING (chat_id)
    WHERE array_position(%(severities)s, severity) >= coalesce(array_position(%(severities)s, min_severity), 0)
    ON CONFLICT DO NOTHING
)
SELECT alert_key FROM raised
