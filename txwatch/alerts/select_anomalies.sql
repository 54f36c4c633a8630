-- Of several scores of one transaction the first that found it unusual: that is the one that would have alerted.
SELECT DISTINCT ON (scores.txid)
    scores.txid, scores.seen_at, score, threshold, reasons::text, source, model_version
FROM transaction_scores AS scores
JOIN transactions USING (txid)
WHERE
    is_anomaly
    AND lane IN ('live', 'window')
    AND scores.seen_at >= %(start)s
    AND scores.seen_at < %(end)s
    AND NOT EXISTS (SELECT 1 FROM alerts WHERE alert_key = scores.txid)
ORDER BY scores.txid, scored_at
