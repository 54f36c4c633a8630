-- Each step is materialized, so that coins are hashed: the planner expects one alert, and would look for the coins of
-- each of them among all transactions.
WITH alerted AS MATERIALIZED (
    SELECT txid AS alert_key, inputs, inputs -> 0 AS coin
    FROM alerts
    JOIN transactions ON txid = alert_key
    WHERE
        created_at > %(now)s - interval '14 days'
        -- A coin without an address is not told apart from others like it.
        AND NOT inputs @> '[{"addr": null}]'
        AND NOT EXISTS (SELECT 1 FROM confirmations WHERE confirmations.txid = alert_key)
),
spent AS MATERIALIZED (
    SELECT txid, height, coin
    FROM blocks
    JOIN confirmations ON block_hash = hash
    JOIN transactions USING (txid)
    CROSS JOIN jsonb_array_elements(inputs) AS coin
    WHERE NOT stale AND fetched_at > %(now)s - interval '3 hours'
),
conflicts AS MATERIALIZED (
    SELECT alert_key, alerted.inputs AS coins, txid, height
    FROM alerted
    JOIN spent USING (coin)
)
INSERT INTO alert_updates (alert_key, update_key, text, created_at)
SELECT DISTINCT ON (alert_key)
    alert_key, 'replaced:' || txid,
    '❌ replaced: ' || left(txid, 8) || '… was confirmed in block ' || to_char(height, 'FM999,999,999')
    || ' instead', %(now)s
FROM conflicts
JOIN transactions USING (txid)
WHERE inputs @> coins
ORDER BY alert_key, height
ON CONFLICT DO NOTHING
