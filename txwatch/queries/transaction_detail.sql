SELECT
    txid, seen_at, feed_time, landed_at, source, value_sat, input_sat, fee_sat, fee_sat::float8 / vsize AS fee_rate,
    vsize, weight, size, rbf, version, lock_time, inputs, outputs,
    (
        SELECT min(height)
        FROM confirmations
        JOIN blocks ON hash = block_hash
        WHERE confirmations.txid = transactions.txid AND NOT stale
    ) AS confirmed_in
FROM transactions
WHERE txid = %(txid)s
