CREATE TEMP TABLE IF NOT EXISTS staged_scores ON COMMIT DELETE ROWS AS
SELECT txid, model_version, context_version, seen_at, lane, score, threshold, is_anomaly, reasons
FROM transaction_scores
WITH NO DATA
