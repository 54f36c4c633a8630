-- Of several scores of a transaction the first that found it unusual: that is the one that alerted.
SELECT
    txid, seen_at, score, threshold, reasons, model_version, lane, scored_at,
    value_sat, fee_sat, fee_sat::float8 / vsize AS fee_rate, input_count, output_count,
    CASE WHEN %(kind)s = 'whale' THEN inputs ELSE '[]' END AS inputs,
    CASE WHEN %(kind)s = 'whale' THEN outputs ELSE '[]' END AS outputs,
    coalesce(flow, 'unknown') AS flow
FROM transaction_scores AS found
JOIN transactions USING (txid, seen_at)
LEFT JOIN (SELECT txid, flow FROM whale_moves) AS moves USING (txid)
WHERE
    is_anomaly
    AND lane <> 'shadow'
    AND score >= %(min_score)s
    AND (
        %(kind)s::text IS NULL
        OR reasons @> jsonb_build_array(jsonb_build_object('kind', %(kind)s::text))
        OR (%(kind)s = 'forest' AND reasons = '[]')
    )
    AND (
        %(min_value)s = 0
        OR jsonb_path_exists(
            reasons,
            '$[*] ? (@.kind == $kind && @.value >= $least)',
            jsonb_build_object('kind', %(kind)s::text, 'least', %(min_value)s::bigint)
        )
    )
    AND (%(since)s::timestamptz IS NULL OR seen_at >= %(since)s)
    AND (%(until)s::timestamptz IS NULL OR seen_at < %(until)s)
    AND (%(before)s::timestamptz IS NULL OR (seen_at <= %(before)s AND (seen_at, txid) < (%(before)s, %(before_key)s)))
    AND NOT EXISTS (
        SELECT 1
        FROM transaction_scores AS sooner
        WHERE
            sooner.txid = found.txid
            AND sooner.is_anomaly
            AND sooner.lane <> 'shadow'
            AND (sooner.scored_at, sooner.model_version, sooner.context_version)
            < (found.scored_at, found.model_version, found.context_version)
    )
ORDER BY seen_at DESC, txid DESC
LIMIT %(limit)s
