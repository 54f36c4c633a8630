INSERT INTO feed_gaps (started_at, ended_at, cause, ending, state)
VALUES (
    %(started_at)s, %(ended_at)s, %(cause)s, %(ending)s,
    CASE WHEN %(ended_at)s::timestamptz IS NULL THEN 'open' ELSE 'ended' END
)
ON CONFLICT (started_at) DO UPDATE SET
    ended_at = excluded.ended_at,
    ending = excluded.ending,
    state = excluded.state
WHERE feed_gaps.state = 'open'
