-- name: list_channels
-- Former ids of chats are left out: the present one has all that is theirs.
SELECT
    channel, kind, shown_as, min_severity, kinds, quiet_hours, digest_every, failures, retry_at, refused_since, refusal,
    disabled_at,
    CASE WHEN disabled_at IS NOT NULL THEN 'off' WHEN refused_since IS NOT NULL THEN 'refuses' ELSE 'on' END AS state,
    coalesce(sent, 0) AS sent, coalesce(waiting, 0) AS waiting, coalesce(uncertain, 0) AS uncertain,
    coalesce(dead, 0) AS dead, last_sent_at
FROM channels
LEFT JOIN (
    SELECT
        channel,
        count(*) FILTER (WHERE state IN ('sent', 'digested')) AS sent,
        count(*) FILTER (WHERE state IN ('pending', 'sending')) AS waiting,
        count(*) FILTER (WHERE state = 'uncertain') AS uncertain,
        count(*) FILTER (WHERE state = 'dead') AS dead,
        max(sent_at) AS last_sent_at
    FROM alert_deliveries
    GROUP BY channel
) AS counted USING (channel)
WHERE moved_to IS NULL AND (%(channel)s::text IS NULL OR channel = %(channel)s)
ORDER BY kind <> 'telegram', channel COLLATE "C"


-- name: insert_channel
-- None when there is one of that name, or as many as there may be.
INSERT INTO channels (channel, kind, shown_as, min_severity, kinds, quiet_hours, digest_every)
SELECT
    %(channel)s, %(kind)s, %(shown_as)s, %(min_severity)s, %(kinds)s::text[], %(quiet_hours)s, %(digest_every)s::interval
WHERE (SELECT count(*) FROM channels WHERE kind <> 'telegram') < %(most)s
ON CONFLICT DO NOTHING
RETURNING channel


-- name: rotate_secret
UPDATE channel_secrets SET secret = %(secret)s, former_secret = secret, former_until = %(until)s
WHERE channel = %(channel)s AND secret IS NOT NULL
RETURNING channel


-- name: select_target
SELECT url, secret, CASE WHEN former_until > %(now)s THEN former_secret END
FROM channel_secrets
WHERE channel = %(channel)s
