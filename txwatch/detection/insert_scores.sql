INSERT INTO transaction_scores (
    txid, model_version, context_version, seen_at, lane, score, threshold, is_anomaly, reasons
)
SELECT txid, model_version, context_version, seen_at, lane, score, threshold, is_anomaly, reasons
FROM staged_scores
ORDER BY txid
ON CONFLICT DO NOTHING
