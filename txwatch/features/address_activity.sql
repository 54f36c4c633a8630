-- One bucket for each address and window in [start, end): how often the address took part, and with how much.
-- An address on both sides of a transaction, or twice on one, counts once for it.
-- Nothing keeps a stranger from sending what sums to more than a BIGINT holds; no real address comes near its end.
SELECT
    address,
    window_start,
    count(DISTINCT txid)::integer AS tx_count,
    least(sum(received_sat), 9223372036854775807)::bigint AS received_sat,
    least(sum(spent_sat), 9223372036854775807)::bigint AS spent_sat,
    min(seen_at) AS first_seen_at,
    max(seen_at) AS last_seen_at
FROM (
    SELECT
        coin.addr AS address, date_bin('5 minutes', seen_at, 'epoch') AS window_start, txid, seen_at,
        0 AS received_sat, coalesce(coin.value, 0) AS spent_sat
    FROM transactions, jsonb_to_recordset(inputs) AS coin (addr text, value bigint)
    WHERE seen_at >= %(start)s AND seen_at < %(end)s
    UNION ALL
    SELECT coin.addr, date_bin('5 minutes', seen_at, 'epoch'), txid, seen_at, coin.value, 0
    FROM transactions, jsonb_to_recordset(outputs) AS coin (addr text, value bigint)
    WHERE seen_at >= %(start)s AND seen_at < %(end)s
) AS coins
WHERE address IS NOT NULL
GROUP BY address, window_start
