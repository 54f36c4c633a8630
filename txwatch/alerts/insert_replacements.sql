-- A coin that was made twice or spent twice is one of several that look alike, and says nothing of any of them.
WITH conflicts AS MATERIALIZED (
    SELECT alert_key, txid, height, coin
    FROM jsonb_to_recordset(%(conflicts)s::jsonb) AS given (alert_key text, txid text, height integer, coin jsonb)
),
alike AS MATERIALIZED (
    SELECT coin, count(*) FILTER (WHERE made) AS made, count(*) FILTER (WHERE NOT made) AS spent
    FROM (
        SELECT coin, true AS made
        FROM transactions
        CROSS JOIN jsonb_array_elements(outputs) AS coin
        WHERE seen_at >= %(since)s AND coin IN (SELECT coin FROM conflicts)
        UNION ALL
        SELECT coin, false
        FROM transactions
        CROSS JOIN jsonb_array_elements(inputs) AS coin
        WHERE seen_at >= %(since)s AND coin IN (SELECT coin FROM conflicts) AND EXISTS (
            SELECT FROM confirmations
            JOIN blocks ON hash = block_hash
            WHERE confirmations.txid = transactions.txid AND NOT stale
        )
    ) AS uses
    GROUP BY coin
)
INSERT INTO alert_updates (alert_key, update_key, text, created_at)
SELECT DISTINCT ON (alert_key)
    alert_key, 'replaced:' || txid,
    '❌ possibly replaced: ' || left(txid, 8) || '… was confirmed in block ' || to_char(height, 'FM999,999,999')
    || ' and seems to spend the same coin', %(now)s
FROM conflicts
JOIN alike USING (coin)
WHERE made <= 1 AND spent <= 1
ORDER BY alert_key, height
ON CONFLICT DO NOTHING
