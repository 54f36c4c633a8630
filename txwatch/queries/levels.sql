SELECT
    (SELECT count(*) FROM transactions WHERE seen_at > %(now)s - interval '1 minute') AS transactions_1m,
    (SELECT count(*) FROM transactions WHERE seen_at > %(now)s - interval '1 hour') AS transactions_1h,
    (
        SELECT count(DISTINCT txid)
        FROM transaction_scores
        WHERE is_anomaly AND lane <> 'shadow' AND seen_at > %(now)s - interval '1 hour'
    ) AS unusual_1h,
    (SELECT count(*) FROM alerts WHERE created_at > %(now)s - interval '1 hour') AS alerts_1h,
    (SELECT max(seen_at) FROM transactions) AS newest_seen_at,
    (SELECT max(window_start) FROM scored_windows) AS newest_scored_window,
    newest.model_version,
    newest.threshold,
    (SELECT count(*) FROM quarantined_messages) AS quarantined,
    (SELECT count(*) FROM feed_gaps WHERE state = 'open') AS open_gaps,
    (SELECT coalesce(sum(extract(epoch FROM coalesce(ended_at, %(now)s) - started_at)), 0)::float8 FROM feed_gaps)
        AS gap_seconds,
    (
        SELECT sum(seen_before_count)::float8 / nullif(sum(mined_count), 0)
        FROM blocks
        WHERE NOT stale AND seen_at > %(now)s - interval '1 day'
    ) AS completeness,
    open.pending AS deliveries_pending,
    open.uncertain AS deliveries_uncertain,
    (SELECT count(*) FROM alert_deliveries WHERE state = 'dead') AS deliveries_dead,
    open.oldest_pending_at
FROM (
    SELECT
        count(*) FILTER (WHERE state IN ('pending', 'sending')) AS pending,
        count(*) FILTER (WHERE state = 'uncertain') AS uncertain,
        min(created_at) FILTER (WHERE state IN ('pending', 'sending')) AS oldest_pending_at
    FROM alert_deliveries
    JOIN alerts USING (alert_key)
    WHERE state IN ('pending', 'sending', 'uncertain')
) AS open
LEFT JOIN (
    SELECT model_version, threshold
    FROM transaction_scores
    WHERE lane <> 'shadow'
    ORDER BY seen_at DESC
    LIMIT 1
) AS newest ON true
