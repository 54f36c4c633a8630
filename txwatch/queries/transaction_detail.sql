SELECT
    txid, seen_at, feed_time, landed_at, source, value_sat, input_sat, fee_sat, fee_sat::float8 / vsize AS fee_rate,
    vsize, weight, size, rbf, version, lock_time, inputs, outputs
FROM transactions
WHERE txid = %(txid)s
