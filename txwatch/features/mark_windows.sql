-- Also windows without traffic: that they were counted is known of them as well.
INSERT INTO address_windows (window_start, publication)
SELECT window_start, %(publication)s
FROM generate_series(%(start)s, %(end)s - interval '5 minutes', interval '5 minutes') AS w (window_start)
ON CONFLICT (window_start) DO UPDATE SET publication = excluded.publication
