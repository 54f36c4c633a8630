SELECT
    alert_key, kinds, severity, reasons, late, seen_at, created_at, model_version,
    coalesce(states, '{}') AS states, sent_at, coalesce(useful, 0) AS useful, coalesce(noise, 0) AS noise
FROM alerts
LEFT JOIN LATERAL (
    SELECT array_agg(DISTINCT state ORDER BY state) AS states, min(sent_at) AS sent_at
    FROM alert_deliveries
    WHERE alert_deliveries.alert_key = alerts.alert_key
) AS deliveries ON true
LEFT JOIN LATERAL (
    SELECT count(*) FILTER (WHERE verdict = 'useful') AS useful, count(*) FILTER (WHERE verdict = 'noise') AS noise
    FROM feedback
    WHERE feedback.alert_key = alerts.alert_key
) AS verdicts ON true
WHERE
    (%(key)s::text IS NULL OR alert_key = %(key)s)
    AND (%(since)s::timestamptz IS NULL OR seen_at >= %(since)s)
    AND (%(until)s::timestamptz IS NULL OR seen_at < %(until)s)
    AND (%(kind)s::text IS NULL OR %(kind)s = ANY(kinds))
    AND (%(severity)s::text IS NULL OR severity = %(severity)s)
    AND (%(state)s::text IS NULL OR %(state)s = ANY(states))
    AND (%(late)s::boolean IS NULL OR late = %(late)s)
    AND (
        %(before)s::timestamptz IS NULL
        OR (seen_at <= %(before)s AND (seen_at, alert_key) < (%(before)s, %(before_key)s))
    )
ORDER BY seen_at DESC, alert_key DESC
LIMIT %(limit)s
