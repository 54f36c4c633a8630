SELECT
    id, started_at, ended_at, extract(epoch FROM coalesce(ended_at, %(now)s) - started_at)::float8 AS seconds,
    cause, ending, state, recovered
FROM feed_gaps
WHERE
    (%(state)s::text IS NULL OR state = %(state)s)
    AND (
        %(before)s::timestamptz IS NULL
        OR (started_at <= %(before)s AND (started_at, lpad(id::text, 19, '0')) < (%(before)s, %(before_key)s))
    )
ORDER BY started_at DESC, id DESC
LIMIT %(limit)s
