-- name: mark_stale_branches
-- Mark blocks that are not on the way from the highest block down.
WITH RECURSIVE tip AS (
    SELECT child.hash, child.prev_hash, child.height
    FROM blocks AS child
    JOIN blocks AS parent ON parent.hash = child.prev_hash AND parent.height = child.height - 1
    WHERE child.removed_at IS NULL
    ORDER BY child.height DESC, child.seen_at
    LIMIT 1
),
best AS (
    SELECT hash, prev_hash, height FROM tip
    UNION ALL
    SELECT parent.hash, parent.prev_hash, parent.height
    FROM best
    JOIN blocks AS parent ON parent.hash = best.prev_hash AND parent.height = best.height - 1
    WHERE parent.height > (SELECT height FROM tip) - %(longest)s
)
UPDATE blocks
SET stale = judged.stale
FROM (
    SELECT blocks.hash, blocks.hash NOT IN (SELECT hash FROM best) AS stale
    FROM blocks
    WHERE height >= (SELECT min(height) FROM best) AND height < (SELECT height FROM tip)
) AS judged
WHERE blocks.hash = judged.hash AND blocks.stale <> judged.stale


-- name: note_contested
-- Of the spends that were staged, those of a coin that another transaction spends.
INSERT INTO contested_outpoints AS known (prev_txid, vout, seen_at)
SELECT prev_txid, vout, max(greatest(staged_spends.seen_at, other.seen_at))
FROM staged_spends
CROSS JOIN LATERAL (
    SELECT seen_at
    FROM spends
    WHERE spends.prev_txid = staged_spends.prev_txid AND spends.vout = staged_spends.vout
        AND spends.txid <> staged_spends.txid
    OFFSET 0 -- by the index for each, whatever the planner thinks of a table without statistics
) AS other
GROUP BY prev_txid, vout
ORDER BY prev_txid, vout
ON CONFLICT (prev_txid, vout) DO UPDATE SET seen_at = excluded.seen_at WHERE excluded.seen_at > known.seen_at


-- name: quarantine
-- Store messages that could not be read.
INSERT INTO quarantined_messages (received_at, reason, size, body)
SELECT %(received_at)s, %(reason)s, %(size)s, %(body)s
WHERE NOT EXISTS (
    SELECT FROM quarantined_messages WHERE received_at = %(received_at)s AND body = %(body)s
)


-- name: record_block
-- A block that was never announced was missed in a gap: its own time stands for its announcement. Where it was announced,
-- its height and its time are still the block's own to say.
INSERT INTO blocks (
    hash, height, block_time, seen_at, announced, tx_count, prev_hash, fetched_at, mined_count, seen_before_count
)
VALUES (
    %(hash)s, %(height)s, to_timestamp(%(time)s), least(to_timestamp(%(time)s), %(fetched_at)s), false, %(tx_count)s,
    %(prev_hash)s, %(fetched_at)s, %(mined)s, %(seen_before)s
)
ON CONFLICT (hash) DO UPDATE SET
    height = excluded.height,
    block_time = excluded.block_time,
    tx_count = excluded.tx_count,
    prev_hash = excluded.prev_hash,
    fetched_at = excluded.fetched_at,
    mined_count = excluded.mined_count,
    seen_before_count = excluded.seen_before_count


-- name: record_completeness
-- Of each source that was followed when a block came: how many of its transactions it had told before.
INSERT INTO block_completeness (
    block_hash, source, mined_count, seen_before_count, below_relay_fee, above_data_carrier
)
SELECT
    %(block_hash)s,
    source,
    count(*),
    count(*) FILTER (WHERE seen_before),
    count(*) FILTER (WHERE NOT seen_before AND is_cheap),
    count(*) FILTER (WHERE NOT seen_before AND NOT is_cheap AND is_large)
FROM (
    SELECT
        feed_sources.source,
        coalesce(sightings.seen_at <= %(announced)s, false) AS seen_before,
        coalesce(fee_rate < min_fee_rate, false) AS is_cheap,
        data_bytes > data_carrier_bytes AS is_large
    FROM unnest(%(txids)s::text[], %(seen_at)s::timestamptz[], %(fee_rates)s::float8[], %(data_bytes)s::bigint[])
        AS mined (txid, seen_at, fee_rate, data_bytes)
    JOIN feed_sources
        ON mined.seen_at > followed_since AND %(announced)s <= noted_at + interval '10 minutes'
            AND network = %(network)s
    LEFT JOIN sightings ON sightings.txid = mined.txid AND sightings.source = feed_sources.source
) AS judged
GROUP BY source
ON CONFLICT (block_hash, source) DO UPDATE SET
    mined_count = excluded.mined_count,
    seen_before_count = excluded.seen_before_count,
    below_relay_fee = excluded.below_relay_fee,
    above_data_carrier = excluded.above_data_carrier


-- name: record_gap
-- Open or extend a gap of the feed.
INSERT INTO feed_gaps (source, started_at, ended_at, cause, ending, state, recovered, tip)
VALUES (
    %(source)s, %(started_at)s, %(ended_at)s, %(cause)s, %(ending)s,
    CASE WHEN %(ended_at)s::timestamptz IS NULL THEN 'open' ELSE 'ended' END, %(recovered)s, %(tip)s
)
ON CONFLICT (source, started_at) DO UPDATE SET
    ended_at = excluded.ended_at,
    ending = excluded.ending,
    state = excluded.state,
    recovered = excluded.recovered,
    tip = excluded.tip
WHERE feed_gaps.state = 'open'


-- name: trim_quarantine
-- Delete the oldest of what is quarantined beyond its bounds.
DELETE FROM quarantined_messages
WHERE id IN (
    SELECT id
    FROM (
        SELECT id, row_number() OVER newest AS place, sum(octet_length(body)) OVER newest AS bytes
        FROM quarantined_messages
        WINDOW newest AS (ORDER BY id DESC)
    ) AS kept
    WHERE place > %(messages)s OR bytes > %(bytes)s
)


-- name: record_history_start
-- A start that moved stays where it is, unless a later one is wanted, or one that is earlier than all before.
INSERT INTO history_start AS known (first_window, earliest_window)
VALUES (%(first)s, %(first)s)
ON CONFLICT (id) DO UPDATE SET
    first_window = CASE
        WHEN %(wanted)s::timestamptz < known.earliest_window THEN %(wanted)s
        ELSE greatest(known.first_window, %(wanted)s)
    END,
    earliest_window = least(known.earliest_window, %(wanted)s)


-- name: kept_since
-- From a day on: when the oldest row was seen, and from when on something is unsettled.
SELECT
    least(
        (SELECT min(seen_at) FROM transactions WHERE seen_at >= %(start)s),
        (SELECT min(seen_at) FROM transaction_scores WHERE seen_at >= %(start)s)
    ),
    least(
        (SELECT min(started_at) FROM feed_gaps WHERE state IN ('open', 'ended')),
        (SELECT min(window_start) FROM late_windows)
    )


-- name: nth_newest_day
-- The one of the newest days with transactions that is the oldest of so many, as its midnight, UTC; no row for fewer.
WITH RECURSIVE newest AS (
    SELECT date_trunc('day', max(seen_at), 'UTC') AS day, 1 AS days FROM transactions WHERE seen_at < %(now)s
    UNION ALL
    SELECT (SELECT date_trunc('day', max(seen_at), 'UTC') FROM transactions WHERE seen_at < day), days + 1
    FROM newest
    WHERE day IS NOT NULL AND days < %(days)s
)
SELECT day FROM newest WHERE days = %(days)s


-- name: usage
-- Bytes of all tables with their indexes, windows of which there are transactions, and bytes that a day takes in the
-- archive, by its newest seven.
SELECT
    (
        SELECT sum(pg_total_relation_size(pg_class.oid))::bigint
        FROM pg_class
        JOIN pg_namespace ON pg_namespace.oid = relnamespace
        WHERE relkind = 'r' AND nspname IN ('public', 'dagster', 'feast')
    ),
    (SELECT count(DISTINCT window_start) FROM network_baseline WHERE tx_count > 0),
    (
        SELECT avg(bytes)::float8
        FROM (
            SELECT sum(bytes) AS bytes
            FROM archived_days
            WHERE bytes IS NOT NULL
            GROUP BY day
            ORDER BY day DESC
            LIMIT 7
        ) AS newest
    )
