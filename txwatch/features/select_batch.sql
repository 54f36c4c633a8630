SELECT
    txid, (extract(epoch FROM seen_at) * 1000000)::bigint, value_sat, fee_sat, vsize, weight, size, rbf,
    version, lock_time, inputs::text, outputs::text
FROM transactions
WHERE seen_at >= %(start)s AND seen_at < %(end)s
ORDER BY seen_at, txid
