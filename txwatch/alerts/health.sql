SELECT
    (SELECT max(seen_at) FROM transactions WHERE source = 'feed' AND seen_at > %(now)s - interval '1 day'),
    (
        SELECT percentile_cont(0.99) WITHIN GROUP (ORDER BY extract(epoch FROM landed_at - seen_at)::float8)
        FROM transactions
        WHERE source = 'feed' AND seen_at > %(now)s - interval '1 minute'
    ),
    (
        SELECT count(*)
        FROM alert_deliveries
        JOIN telegram_requests ON request_id = id
        WHERE state = 'dead' AND ended_at > %(now)s - interval '1 hour' AND alert_key NOT LIKE 'system:%%'
    ),
    (
        SELECT reason
        FROM alert_deliveries
        JOIN telegram_requests ON request_id = id
        WHERE state = 'dead' AND ended_at > %(now)s - interval '1 hour' AND alert_key NOT LIKE 'system:%%'
        ORDER BY ended_at DESC
        LIMIT 1
    )
