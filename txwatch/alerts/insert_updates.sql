INSERT INTO alert_updates (alert_key, update_key, text, created_at)
SELECT alert_key, update_key, text, given.created_at
FROM jsonb_to_recordset(%(updates)s::jsonb) AS given (
    alert_key text, update_key text, text text, created_at timestamptz
)
JOIN alerts USING (alert_key)
WHERE update_key <> ALL (SELECT 'kind:' || kind FROM unnest(kinds) AS kind)
ORDER BY alert_key, update_key
ON CONFLICT DO NOTHING
