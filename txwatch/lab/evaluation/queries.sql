-- name: judged_alerts
-- A tie among people counts as useful, as it does in the live precision.
WITH judged AS (
    SELECT alert_key, count(*) FILTER (WHERE verdict = 'useful') * 2 >= count(*) AS useful
    FROM feedback
    GROUP BY alert_key
)
SELECT alert_key, seen_at, useful
FROM judged
JOIN alerts USING (alert_key)
WHERE kinds && %(kinds)s::text[]
ORDER BY created_at DESC, alert_key
LIMIT %(at_most)s
