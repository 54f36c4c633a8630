-- Of the scores just computed, those that the live lane had written of the same model and context, and how many differ.
SELECT
    count(*),
    count(*) FILTER (
        WHERE (earlier.score, earlier.threshold, earlier.is_anomaly)
            IS DISTINCT FROM (staged.score, staged.threshold, staged.is_anomaly)
    )
FROM staged_scores AS staged
JOIN transaction_scores AS earlier USING (txid, model_version, context_version)
WHERE earlier.lane = 'live'
