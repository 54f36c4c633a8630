SELECT
    date_bin('5 minutes', seen_at, 'epoch') AS window_start,
    count(DISTINCT alert_key),
    count(DISTINCT alert_key) FILTER (WHERE late),
    count(*) FILTER (WHERE state = 'sent'),
    count(*) FILTER (WHERE state = 'digested'),
    count(*) FILTER (WHERE state IN ('pending', 'sending')),
    count(*) FILTER (WHERE state = 'uncertain'),
    count(*) FILTER (WHERE state = 'dead')
FROM alerts
LEFT JOIN alert_deliveries USING (alert_key)
WHERE seen_at >= %(start)s AND seen_at < %(end)s
GROUP BY window_start
