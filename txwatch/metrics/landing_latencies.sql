SELECT bucket, count(*), sum(seconds)::float8
FROM (
    SELECT
        extract(epoch FROM landed_at - seen_at)::float8 AS seconds,
        -- A bound belongs to its own bucket, as in Prometheus: so it is counted from above.
        cardinality(%(bounds)s::float8[])
        - (SELECT count(*) FROM unnest(%(bounds)s::float8[]) AS bound WHERE extract(epoch FROM landed_at - seen_at) <= bound)
        AS bucket
    FROM transactions
    WHERE source = 'feed' AND seen_at >= %(since)s AND seen_at < %(until)s
) AS latencies
GROUP BY bucket
