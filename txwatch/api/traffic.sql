SELECT
    %(now)s::timestamptz AS at,
    count(*) FILTER (WHERE seen_at > %(now)s - interval '10 seconds') / 10.0::float8 AS transactions_per_second,
    max(seen_at) AS newest_seen_at,
    (SELECT committed_through FROM ingest_lease) AS committed_through
FROM transactions
WHERE seen_at > %(now)s - interval '1 minute'
