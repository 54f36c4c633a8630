-- Rows (metric, label, value) of what is counted by a label.
SELECT 'deliveries' AS metric, state AS label, count(*)::float8 AS value FROM alert_deliveries GROUP BY state
UNION ALL
SELECT 'gaps', state, count(*) FROM feed_gaps GROUP BY state
UNION ALL
SELECT 'alerts', severity, count(*) FROM alerts WHERE created_at > %(now)s - interval '1 hour' GROUP BY severity
UNION ALL
SELECT 'health', name, (state = 'wrong')::integer
FROM (SELECT DISTINCT ON (name) name, state FROM health_checks ORDER BY name, checked_at DESC, id DESC) AS latest
UNION ALL
SELECT 'window', 'baseline', extract(epoch FROM max(window_start)) FROM network_baseline
UNION ALL
SELECT 'window', 'features', extract(epoch FROM date_bin('5 minutes', max(seen_at), 'epoch')) FROM transaction_features
UNION ALL
SELECT 'unusual', lane, count(DISTINCT txid)
FROM transaction_scores
WHERE is_anomaly AND seen_at > %(now)s - interval '1 hour'
GROUP BY lane
