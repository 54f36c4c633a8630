SELECT DISTINCT ON (txid) txid, score, threshold, is_anomaly, reasons::text, model_version, context_version, seen_at
FROM transaction_scores
WHERE txid >= %(from)s AND txid < %(to)s
ORDER BY txid, scored_at
LIMIT 3
