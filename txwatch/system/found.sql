SELECT txid, seen_at, score, reasons -> 0 ->> 'text', scored_at
FROM transaction_scores
WHERE is_anomaly AND lane <> 'shadow' AND scored_at > %(after)s AND seen_at >= %(after)s - interval '1 hour'
ORDER BY scored_at
LIMIT %(limit)s
