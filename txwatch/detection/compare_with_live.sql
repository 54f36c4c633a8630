-- Of the scores just computed, those that the live lane had written of the same model and context, and how many differ.
-- What was known of addresses decides as well: scores from before it last changed are not compared.
SELECT
    count(*),
    count(*) FILTER (
        WHERE (earlier.score, earlier.threshold, earlier.is_anomaly)
            IS DISTINCT FROM (staged.score, staged.threshold, staged.is_anomaly)
    )
FROM staged_scores AS staged
JOIN transaction_scores AS earlier USING (txid, model_version, context_version)
WHERE earlier.lane = 'live'
    AND earlier.scored_at > coalesce((SELECT changed_at FROM label_changes), '-infinity')
