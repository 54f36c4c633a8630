SELECT
    model_version,
    bool_and(lane = 'shadow') AS shadow,
    count(*) AS scored,
    count(*) FILTER (WHERE is_anomaly) AS unusual,
    (array_agg(threshold ORDER BY scored_at DESC))[1] AS threshold,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY score) AS score_p50,
    percentile_cont(0.99) WITHIN GROUP (ORDER BY score) AS score_p99,
    min(scored_at) AS first_scored_at,
    max(scored_at) AS last_scored_at
FROM transaction_scores
WHERE seen_at >= %(since)s
GROUP BY model_version
ORDER BY max(scored_at) DESC
