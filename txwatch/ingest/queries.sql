-- name: window_summaries
-- Rows, lag, gaps and late rows of windows that are sealed.
WITH windows AS (
    SELECT window_start, window_start + interval '5 minutes' AS window_end
    FROM generate_series(%(start)s, %(end)s - interval '5 minutes', interval '5 minutes') AS w (window_start)
),
landed AS (
    SELECT
        date_bin('5 minutes', seen_at, 'epoch') AS window_start,
        count(*) AS rows,
        count(*) FILTER (WHERE source = 'feed') AS live_rows,
        count(*) FILTER (WHERE source = 'block') AS recovered_rows,
        percentile_cont(ARRAY[0.5, 0.99]) WITHIN GROUP (ORDER BY extract(epoch FROM landed_at - seen_at) * 1000)
            FILTER (WHERE source = 'feed') AS lags_ms
    FROM transactions
    WHERE seen_at >= %(start)s AND seen_at < %(end)s
    GROUP BY 1
),
unheard AS (
    SELECT lower(stretch) AS started_at, upper(stretch) AS ended_at
    FROM unnest(unheard(%(start)s, %(end)s, 'recovered')) AS stretch
),
holes AS (
    SELECT
        window_start,
        count(*) AS gaps,
        sum(extract(epoch FROM least(ended_at, window_end) - greatest(started_at, window_start))) AS gap_seconds
    FROM windows
    JOIN unheard ON started_at < window_end AND ended_at > window_start
    GROUP BY 1
)
SELECT
    window_start,
    coalesce(rows, 0)::bigint AS rows,
    coalesce(live_rows, 0)::bigint AS live_rows,
    coalesce(recovered_rows, 0)::bigint AS recovered_rows,
    lags_ms[1] AS lag_p50_ms,
    lags_ms[2] AS lag_p99_ms,
    coalesce(gaps, 0)::bigint AS gaps,
    coalesce(gap_seconds, 0)::float8 AS gap_seconds
FROM windows
LEFT JOIN landed USING (window_start)
LEFT JOIN holes USING (window_start)
ORDER BY window_start
