INSERT INTO recent_scores (model_version, as_of, rows, highest)
SELECT %(model_version)s, %(as_of)s, count(*), (array_agg(score ORDER BY score DESC))[1:%(kept)s]
FROM transaction_scores
WHERE seen_at >= %(since)s AND seen_at < %(as_of)s AND model_version = %(model_version)s
HAVING count(*) > 0
ON CONFLICT DO NOTHING
