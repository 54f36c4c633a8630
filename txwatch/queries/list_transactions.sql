SELECT
    txid, seen_at, value_sat, fee_sat, fee_sat::float8 / vsize AS fee_rate, vsize, input_count, output_count, rbf, source
FROM transactions
WHERE
    (%(since)s::timestamptz IS NULL OR seen_at >= %(since)s)
    AND (%(until)s::timestamptz IS NULL OR seen_at < %(until)s)
    AND value_sat >= %(min_value_sat)s
    AND (%(source)s::text IS NULL OR source = %(source)s)
    -- The first of the two is what the index is entered by.
    AND (%(before)s::timestamptz IS NULL OR (seen_at <= %(before)s AND (seen_at, txid) < (%(before)s, %(before_key)s)))
ORDER BY seen_at DESC, txid DESC
LIMIT %(limit)s
