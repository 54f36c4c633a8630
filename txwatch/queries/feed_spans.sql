WITH spans AS (
    SELECT since, least(since + %(span)s, %(end)s) AS until
    FROM generate_series(%(start)s::timestamptz, %(end)s::timestamptz - interval '1 microsecond', %(span)s) AS s (since)
),
landed AS (
    SELECT
        date_bin(%(span)s, seen_at, %(start)s) AS since,
        count(*) FILTER (WHERE source <> 'block') AS transactions,
        count(*) FILTER (WHERE source = 'block') AS recovered,
        least(sum(value_sat), 9223372036854775807)::bigint AS value_sat,
        percentile_cont(ARRAY[0.5, 0.99]) WITHIN GROUP (ORDER BY extract(epoch FROM landed_at - seen_at)::float8 * 1000)
            FILTER (WHERE source = 'feed') AS lags_ms
    FROM transactions
    WHERE seen_at >= %(start)s AND seen_at < %(end)s
    GROUP BY 1
),
missed AS (
    SELECT since, sum(extract(epoch FROM least(coalesce(ended_at, until), until) - greatest(started_at, since))) AS seconds
    FROM spans
    JOIN feed_gaps ON started_at < until AND coalesce(ended_at, 'infinity') > since
    GROUP BY 1
)
SELECT
    since,
    coalesce(transactions, 0) AS transactions,
    coalesce(value_sat, 0) AS value_sat,
    lags_ms[1] AS lag_p50_ms,
    lags_ms[2] AS lag_p99_ms,
    coalesce(recovered, 0) AS recovered,
    greatest(0, 1 - coalesce(seconds, 0) / extract(epoch FROM until - since))::float8 AS heard
FROM spans
LEFT JOIN landed USING (since)
LEFT JOIN missed USING (since)
ORDER BY since
