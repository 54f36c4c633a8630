SELECT date_bin(%(span)s, seen_at, 'epoch') AS since, kind, count(DISTINCT txid) AS count
FROM transaction_scores
CROSS JOIN LATERAL (
    SELECT reason ->> 'kind' AS kind FROM jsonb_array_elements(reasons) AS reason
    UNION
    SELECT 'forest' WHERE reasons = '[]'
) AS kinds
WHERE is_anomaly AND lane <> 'shadow' AND seen_at >= %(start)s AND seen_at < %(end)s
GROUP BY 1, 2
ORDER BY 1, 2
