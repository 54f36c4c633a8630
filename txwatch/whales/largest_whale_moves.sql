WITH largest AS (
    SELECT txid, seen_at, moved_sat, flow, senders, receivers, sources
    FROM whale_moves
    WHERE seen_at >= %(since)s AND flow <> 'internal_move'
    ORDER BY moved_sat DESC, txid
    LIMIT %(limit)s
)
SELECT
    txid, largest.seen_at, moved_sat, flow, senders, receivers, sources, value_sat, fee_sat,
    (
        SELECT min(height)
        FROM confirmations
        JOIN blocks ON hash = block_hash AND NOT stale
        WHERE confirmations.txid = largest.txid
    ) AS confirmed_height
FROM largest
LEFT JOIN transactions USING (txid)
ORDER BY moved_sat DESC, txid
