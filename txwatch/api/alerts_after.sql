SELECT alert_key, kinds, severity, reasons, late, seen_at, created_at, model_version
FROM alerts
WHERE created_at >= %(after)s AND (created_at, alert_key) > (%(after)s, %(key)s)
ORDER BY created_at, alert_key
LIMIT %(limit)s
