-- Coins that an alerted transaction spends, which is in no block, and that a confirmed one seems to spend: of the same
-- address, value, type and position, once in each, and with the higher fee in the later one, as in any replacement.
-- Each step is materialized, so that coins are hashed: the planner expects one alert, and would look for the coins of
-- each of them among all transactions.
WITH alerted AS MATERIALIZED (
    SELECT txid AS alert_key, transactions.seen_at, fee_sat, coin
    FROM alerts
    JOIN transactions ON txid = alert_key
    CROSS JOIN jsonb_array_elements(inputs) AS coin
    WHERE
        created_at > %(now)s - interval '14 days'
        AND NOT EXISTS (
            SELECT FROM confirmations JOIN blocks ON hash = block_hash WHERE confirmations.txid = alert_key AND NOT stale
        )
    GROUP BY txid, transactions.seen_at, fee_sat, coin
    HAVING count(*) = 1
),
spent AS MATERIALIZED (
    SELECT txid, transactions.seen_at, fee_sat, height, coin
    FROM blocks
    JOIN confirmations ON block_hash = hash
    JOIN transactions USING (txid)
    CROSS JOIN jsonb_array_elements(inputs) AS coin
    WHERE
        NOT stale AND fetched_at > %(now)s - interval '6 hours'
        -- The blocks after it could have held the alerted one.
        AND EXISTS (
            SELECT FROM blocks AS later
            WHERE later.height = blocks.height + %(buried)s AND later.prev_hash IS NOT NULL AND NOT later.stale
        )
    GROUP BY txid, transactions.seen_at, fee_sat, height, coin
    HAVING count(*) = 1
)
SELECT DISTINCT alert_key, txid, height, coin::text AS coin, least(alerted.seen_at, spent.seen_at) AS seen_at
FROM alerted
JOIN spent USING (coin)
WHERE
    txid <> alert_key
    AND coin ->> 'value' IS NOT NULL
    -- Without an address, an amount that somebody typed is no one coin's.
    AND (coin ->> 'addr' IS NOT NULL OR (coin ->> 'value')::bigint %% 1000 <> 0)
    AND (
        alerted.fee_sat IS NULL OR spent.fee_sat IS NULL
        OR CASE WHEN alerted.seen_at <= spent.seen_at THEN alerted.fee_sat < spent.fee_sat
            ELSE spent.fee_sat < alerted.fee_sat END
    )
    AND NOT EXISTS (
        SELECT FROM alert_updates
        WHERE alert_updates.alert_key = alerted.alert_key AND update_key = 'replaced:' || txid
    )
