CREATE TEMP TABLE IF NOT EXISTS staged_transactions ON COMMIT DELETE ROWS AS
SELECT
    txid, seen_at, feed_time, value_sat, input_sat, fee_sat, vsize, weight, size,
    input_count, output_count, rbf, version, lock_time, inputs, outputs, source
FROM transactions
WITH NO DATA
