WITH held AS (
    SELECT
        alert_key, hash, stale, to_char(height, 'FM999,999,999') AS height,
        greatest(0, round(extract(epoch FROM blocks.seen_at - alerts.seen_at) / 60)) AS minutes
    FROM alerts
    JOIN confirmations ON txid = alert_key
    JOIN blocks ON hash = block_hash
    WHERE created_at > %(now)s - interval '14 days'
)
INSERT INTO alert_updates (alert_key, update_key, text, created_at)
SELECT
    alert_key, 'confirmed:' || hash,
    '✅ confirmed in block ' || height || ', ' || minutes || ' min after it was seen', %(now)s
FROM held
WHERE NOT stale
UNION ALL
SELECT
    alert_key, 'stale:' || hash,
    '⚠️ block ' || height || ' lost a chain split: not confirmed by it any more', %(now)s
FROM held
WHERE stale AND EXISTS (
    SELECT 1 FROM alert_updates AS told WHERE told.alert_key = held.alert_key AND update_key = 'confirmed:' || hash
)
ON CONFLICT DO NOTHING
