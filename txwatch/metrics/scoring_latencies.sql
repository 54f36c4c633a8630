SELECT lane, bucket, count(*), sum(seconds)::float8
FROM (
    SELECT
        lane,
        extract(epoch FROM scored_at - seen_at)::float8 AS seconds,
        cardinality(%(bounds)s::float8[])
        - (SELECT count(*) FROM unnest(%(bounds)s::float8[]) AS bound WHERE extract(epoch FROM scored_at - seen_at) <= bound)
        AS bucket
    FROM transaction_scores
    WHERE scored_at >= %(since)s AND scored_at < %(until)s
) AS latencies
GROUP BY lane, bucket
