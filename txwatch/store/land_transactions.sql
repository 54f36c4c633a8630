-- In order of txid, so that two workers that overlap lock rows in one order and cannot deadlock.
INSERT INTO transactions (
    txid, seen_at, feed_time, value_sat, input_sat, fee_sat, vsize, weight, size,
    input_count, output_count, rbf, version, lock_time, inputs, outputs, source
)
SELECT
    txid, seen_at, feed_time, value_sat, input_sat, fee_sat, vsize, weight, size,
    input_count, output_count, rbf, version, lock_time, inputs, outputs, source
FROM staged_transactions
ORDER BY txid
ON CONFLICT (txid) DO NOTHING
RETURNING txid
