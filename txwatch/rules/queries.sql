-- name: add_version
-- The version after the last one of a rule, from the database's clock on.
INSERT INTO rules (name, version, document, mode, changed_at, changed_by, reason)
SELECT
    %(name)s, coalesce(max(version), 0) + 1, %(document)s::jsonb, %(mode)s,
    -- After the one before it, also where the clock was set back.
    greatest(clock_timestamp(), max(changed_at) + interval '1 microsecond'), %(by)s, %(reason)s
FROM rules
WHERE name = %(name)s
RETURNING name, version, document, mode, changed_at, changed_by, reason


-- name: first_sources
-- Who told of each transaction first.
SELECT DISTINCT ON (txid) txid, source
FROM sightings
WHERE txid = ANY(%(txids)s)
ORDER BY txid, seen_at, source


-- name: matches_of_a_day
-- What became of the matches of a day, by rule.
SELECT
    rule, count(*) FILTER (WHERE outcome = 'alert'), count(*) FILTER (WHERE outcome = 'test'),
    count(*) FILTER (WHERE outcome = 'held')
FROM rule_matches
WHERE seen_at > %(now)s - interval '1 day'
GROUP BY rule


-- name: newest_versions
SELECT DISTINCT ON (name) name, version, document, mode, changed_at, changed_by, reason
FROM rules
ORDER BY name, version DESC


-- name: payers
-- The addresses that stored transactions spend from.
SELECT txid, array_agg(DISTINCT coin ->> 'addr')
FROM transactions
CROSS JOIN jsonb_array_elements(inputs) AS coin
WHERE txid = ANY(%(txids)s) AND coin ->> 'addr' IS NOT NULL
GROUP BY txid


-- name: record_matches
-- Each match once, by the rule's cap of the hour of the clock in which its transaction was seen. In order of key, so that
-- two lanes lock rows in one order. Of those that do not alert the first ones of an hour. The caller holds the lock of
-- the caps.
WITH given AS (
    SELECT given.*, date_bin('1 hour', given.seen_at, 'epoch') AS hour
    FROM jsonb_to_recordset(%(matches)s::jsonb) AS given (
        txid text, rule text, version integer, seen_at timestamptz, severity text, mode text, cap integer,
        alike_seconds integer, reason jsonb
    )
    WHERE NOT EXISTS (
        SELECT FROM rule_matches AS known WHERE known.txid = given.txid AND known.rule = given.rule
    )
),
recorded AS (
    SELECT
        rule, hour, count(*) FILTER (WHERE outcome = 'alert') AS alerts,
        count(*) FILTER (WHERE outcome <> 'alert') AS untold
    FROM (SELECT DISTINCT rule, hour FROM given) AS hours
    JOIN rule_matches AS known USING (rule)
    WHERE known.seen_at >= hour AND known.seen_at < hour + interval '1 hour'
    GROUP BY rule, hour
),
placed AS (
    SELECT
        given.*, coalesce(untold, 0) AS untold,
        CASE WHEN mode = 'test' THEN 0 ELSE greatest(0, cap - coalesce(alerts, 0)) END AS alerting,
        row_number() OVER (PARTITION BY rule, hour, mode ORDER BY given.seen_at, txid) AS place
    FROM given
    LEFT JOIN recorded USING (rule, hour)
)
INSERT INTO rule_matches (txid, rule, version, seen_at, severity, outcome, alike_seconds, reason)
SELECT
    txid, rule, version, seen_at, severity,
    CASE WHEN mode = 'test' THEN 'test' WHEN place <= alerting THEN 'alert' ELSE 'held' END, alike_seconds, reason
FROM placed
WHERE place <= alerting OR place - alerting + untold <= %(most_untold)s
ORDER BY txid, rule
ON CONFLICT DO NOTHING
RETURNING txid, rule, outcome


-- name: versions_since
-- Every version that was active or in test at or after a moment, with the time for which it holds.
SELECT *
FROM (
    SELECT
        name, version, document, mode, changed_at,
        lead(changed_at) OVER (PARTITION BY name ORDER BY version) AS until
    FROM rules
) AS versions
WHERE mode <> 'off' AND (until IS NULL OR until > %(moment)s)
ORDER BY name, version


-- name: found_kinds
-- What was found in transactions, the forest's opinion among it.
SELECT DISTINCT txid, kind
FROM transaction_scores
CROSS JOIN LATERAL (
    SELECT reason ->> 'kind' AS kind FROM jsonb_array_elements(reasons) AS reason
    UNION
    SELECT 'forest' WHERE score >= threshold
) AS found
WHERE txid = ANY(%(txids)s) AND lane <> 'shadow'


-- name: windows_with_features
SELECT begins
FROM generate_series(%(since)s, %(until)s::timestamptz - interval '5 minutes', interval '5 minutes') AS span (begins)
WHERE EXISTS (SELECT FROM transaction_features WHERE seen_at >= begins AND seen_at < begins + interval '5 minutes')
ORDER BY begins DESC
