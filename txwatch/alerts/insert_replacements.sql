WITH alerted AS (
    SELECT txid, inputs, inputs -> 0 AS coin
    FROM alerts
    JOIN transactions ON txid = alert_key
    WHERE
        created_at > %(now)s - interval '14 days'
        -- A coin without an address is not told apart from others like it.
        AND NOT inputs @> '[{"addr": null}]'
        AND NOT EXISTS (SELECT 1 FROM confirmations WHERE confirmations.txid = alert_key)
),
-- Materialized, so that the coins are hashed. The planner expects one alert, and would look for the coins of each among
-- all transactions: a minute for a hundred alerts.
spent AS MATERIALIZED (
    SELECT txid, height, coin
    FROM blocks
    JOIN confirmations ON block_hash = hash
    JOIN transactions USING (txid)
    CROSS JOIN jsonb_array_elements(inputs) AS coin
    WHERE NOT stale AND fetched_at > %(now)s - interval '3 hours'
)
INSERT INTO alert_updates (alert_key, update_key, text, created_at)
SELECT DISTINCT ON (alerted.txid)
    alerted.txid, 'replaced:' || spent.txid,
    '❌ replaced: ' || left(spent.txid, 8) || '… was confirmed in block ' || to_char(height, 'FM999,999,999')
    || ' instead', %(now)s
FROM alerted
JOIN spent USING (coin)
JOIN transactions AS other ON other.txid = spent.txid
WHERE other.txid <> alerted.txid AND other.inputs @> alerted.inputs
ORDER BY alerted.txid, height
ON CONFLICT DO NOTHING
