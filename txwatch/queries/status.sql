SELECT
    (SELECT count(*) FROM transactions) AS transactions,
    (SELECT count(*) FROM transactions WHERE source = 'feed' AND seen_at >= %(since)s) AS live_transactions,
    (SELECT count(*) FROM quarantined_messages) AS quarantined,
    (SELECT count(*) FROM blocks) AS blocks,
    (SELECT count(*) FROM feed_gaps) AS gaps,
    (SELECT coalesce(sum(extract(epoch FROM coalesce(ended_at, now()) - started_at)), 0)::float8 FROM feed_gaps)
        AS gap_seconds,
    (
        SELECT coalesce(sum(extract(epoch FROM coalesce(ended_at, now()) - started_at)), 0)::float8
        FROM feed_gaps
        WHERE state <> 'recovered'
    ) AS unrecovered_gap_seconds,
    (SELECT coalesce(sum(recovered), 0)::bigint FROM feed_gaps) AS recovered,
    -- Of what was mined since the feed is followed, the share that it had brought before the block, over the last day.
    (
        SELECT sum(seen_before_count)::float8 / nullif(sum(mined_count), 0)
        FROM blocks
        WHERE NOT stale AND seen_at > %(now)s - interval '1 day'
    ) AS completeness,
    (SELECT count(*) FROM scored_windows) AS windows_scored,
    (
        SELECT count(*)
        FROM scored_windows
        WHERE window_start > %(since)s - interval '5 minutes' AND EXISTS (
            SELECT FROM transactions
            WHERE source = 'feed' AND seen_at >= %(since)s
                AND seen_at >= window_start AND seen_at < window_start + interval '5 minutes'
        )
    ) AS live_windows_scored,
    (SELECT count(DISTINCT txid) FROM transaction_scores WHERE is_anomaly AND lane <> 'shadow') AS anomalies,
    (
        SELECT percentile_cont(ARRAY[0.5, 0.99])
            WITHIN GROUP (ORDER BY extract(epoch FROM landed_at - seen_at)::float8 * 1000)
        FROM transactions
        WHERE source = 'feed' AND seen_at >= %(since)s
    ) AS landing_ms,
    (
        SELECT percentile_cont(ARRAY[0.5, 0.99])
            WITHIN GROUP (ORDER BY extract(epoch FROM scored_at - seen_at)::float8 * 1000)
        FROM transaction_scores
        WHERE seen_at >= %(since)s AND lane <> 'shadow'
    ) AS scoring_ms,
    (
        SELECT coalesce(jsonb_object_agg(state, n), '{}')
        FROM (SELECT state, count(*) AS n FROM alert_deliveries GROUP BY state) AS by_state
    ) AS alerts,
    (SELECT model_version FROM transaction_scores WHERE lane <> 'shadow' ORDER BY seen_at DESC LIMIT 1) AS model_version
