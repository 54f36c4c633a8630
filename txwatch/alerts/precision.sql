WITH judged AS (
    SELECT alert_key, count(*) FILTER (WHERE verdict = 'useful') * 2 >= count(*) AS useful
    FROM feedback
    GROUP BY alert_key
)
SELECT kind, model_version, count(*), count(*) FILTER (WHERE useful)
FROM judged
JOIN alerts USING (alert_key)
CROSS JOIN unnest(kinds) AS kind
WHERE created_at >= %(since)s
GROUP BY kind, model_version
ORDER BY count(*) DESC, kind, model_version
