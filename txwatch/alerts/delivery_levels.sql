SELECT
    count(*) FILTER (WHERE state = 'sent'),
    count(*) FILTER (WHERE state = 'digested'),
    count(*) FILTER (WHERE state IN ('pending', 'sending')),
    count(*) FILTER (WHERE state = 'uncertain'),
    count(*) FILTER (WHERE state = 'dead'),
    percentile_cont(ARRAY[0.5, 0.99]) WITHIN GROUP (ORDER BY extract(epoch FROM sent_at - seen_at)::float8 * 1000)
        FILTER (WHERE state = 'sent' AND NOT late AND alert_key NOT LIKE 'system:%%')
FROM alert_deliveries
JOIN alerts USING (alert_key)
WHERE created_at >= %(since)s
