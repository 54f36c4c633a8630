-- name: record_day
-- A day that is archived again is in the database again, or it would not be.
INSERT INTO archived_days (
    dataset, day, archived_changes, file, bytes, sha256, format, rows, checksum, stored_rows, stored_checksum,
    archived_at, checked_at
)
VALUES (
    %(dataset)s, %(day)s, %(archived_changes)s, %(file)s, %(bytes)s, %(sha256)s, %(format)s, %(rows)s, %(checksum)s,
    %(stored_rows)s, %(stored_checksum)s, %(archived_at)s, %(archived_at)s
)
ON CONFLICT (dataset, day) DO UPDATE SET
    archived_changes = excluded.archived_changes,
    file = excluded.file,
    bytes = excluded.bytes,
    sha256 = excluded.sha256,
    format = excluded.format,
    rows = excluded.rows,
    checksum = excluded.checksum,
    stored_rows = excluded.stored_rows,
    stored_checksum = excluded.stored_checksum,
    archived_at = excluded.archived_at,
    checked_at = excluded.checked_at,
    broken = NULL,
    dropped_at = NULL,
    removed_at = NULL


-- name: closed_days
-- Days before a midnight that hold transactions, each with what is still being done for it, or NULL.
WITH RECURSIVE days AS (
    SELECT date_trunc('day', min(seen_at), 'UTC') AS day FROM transactions WHERE seen_at < %(end)s
    UNION ALL
    SELECT (
        SELECT date_trunc('day', min(seen_at), 'UTC')
        FROM transactions
        WHERE seen_at >= day + interval '24 hours' AND seen_at < %(end)s
    )
    FROM days
    WHERE day IS NOT NULL
)
SELECT
    (day AT TIME ZONE 'UTC')::date,
    CASE
        WHEN day < %(given_up)s THEN NULL
        WHEN EXISTS (
            SELECT FROM feed_gaps
            WHERE state IN ('open', 'ended') AND started_at < day + interval '24 hours'
                AND (ended_at IS NULL OR ended_at >= day)
        ) THEN 'a gap of the feed waits for recovery'
        WHEN EXISTS (
            SELECT FROM late_windows WHERE window_start >= day AND window_start < day + interval '24 hours'
        ) THEN 'what landed late waits to be computed'
        WHEN EXISTS (
            SELECT FROM generate_series(day, day + interval '23 hours 55 minutes', interval '5 minutes') AS window_start
            WHERE NOT EXISTS (SELECT FROM scored_windows WHERE scored_windows.window_start = window_start.window_start)
                AND EXISTS (
                    SELECT FROM transactions
                    WHERE seen_at >= window_start.window_start
                        AND seen_at < window_start.window_start + interval '5 minutes'
                )
        ) THEN 'not all of its windows are scored'
    END
FROM days
WHERE day IS NOT NULL
ORDER BY day
