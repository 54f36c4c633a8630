SELECT
    txid, whales.seen_at, moved_sat, flow, senders, receivers, sources, value_sat, fee_sat,
    (
        SELECT min(height)
        FROM confirmations
        JOIN blocks ON hash = block_hash AND NOT stale
        WHERE confirmations.txid = whales.txid
    ) AS confirmed_height
FROM whale_moves AS whales
LEFT JOIN transactions USING (txid)
WHERE
    (%(since)s::timestamptz IS NULL OR whales.seen_at >= %(since)s)
    AND (%(until)s::timestamptz IS NULL OR whales.seen_at < %(until)s)
    AND (%(flow)s::text IS NULL OR flow = %(flow)s)
    AND (%(entity)s::text IS NULL OR %(entity)s = ANY(senders) OR %(entity)s = ANY(receivers))
    AND moved_sat >= %(least)s
    AND (%(before)s::timestamptz IS NULL OR (whales.seen_at, txid) < (%(before)s, %(before_txid)s))
ORDER BY whales.seen_at DESC, txid DESC
LIMIT %(limit)s
