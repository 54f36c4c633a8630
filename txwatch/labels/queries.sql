-- name: import_labels
-- Write staged labels, each once by address and source, and say what changed.
WITH given AS (
    SELECT DISTINCT ON (address, source) address, source, entity, category, confidence, note, changed_on
    FROM staged_labels
    ORDER BY address, source, place DESC
),
written AS (
    INSERT INTO labels (address, source, entity, category, confidence, note, changed_on, imported_at)
    SELECT address, source, entity, category, confidence, note, changed_on, %(now)s
    FROM given
    ORDER BY address, source
    ON CONFLICT (address, source) DO UPDATE SET (entity, category, confidence, note, changed_on, imported_at) = (
        excluded.entity, excluded.category, excluded.confidence, excluded.note, excluded.changed_on, excluded.imported_at
    )
    WHERE
        (labels.entity, labels.category, labels.confidence, labels.note, labels.changed_on)
        IS DISTINCT FROM (excluded.entity, excluded.category, excluded.confidence, excluded.note, excluded.changed_on)
    -- A row that was inserted, and not updated, has never been locked by another version of itself.
    RETURNING xmax = 0 AS is_new
)
SELECT
    (SELECT count(*) FROM written WHERE is_new),
    (SELECT count(*) FROM written WHERE NOT is_new),
    (SELECT count(*) FROM given) - (SELECT count(*) FROM written)


-- name: stage_labels
-- The table that labels of a file are copied into.
CREATE TEMP TABLE IF NOT EXISTS staged_labels ON COMMIT DELETE ROWS AS
SELECT 0::bigint AS place, address, source, entity, category, confidence, note, changed_on
FROM labels
WITH NO DATA


-- name: entity_totals
-- What whales moved into and out of each entity. Hostile amounts may sum to more than a BIGINT holds: they stop there.
SELECT
    entity,
    least(coalesce(sum(moved_sat) FILTER (WHERE is_receiver), 0), 9223372036854775807)::bigint AS received_sat,
    least(coalesce(sum(moved_sat) FILTER (WHERE NOT is_receiver), 0), 9223372036854775807)::bigint AS sent_sat,
    count(*) AS count
FROM whale_moves
CROSS JOIN LATERAL (
    SELECT unnest(senders) AS entity, false AS is_receiver
    UNION ALL
    SELECT unnest(receivers), true
) AS parts
WHERE seen_at >= %(since)s AND seen_at < %(until)s AND flow <> 'internal_move'
GROUP BY entity
ORDER BY sum(moved_sat) DESC, entity
LIMIT %(limit)s


-- name: flow_totals
-- Whales by the class of their flow.
SELECT flow, count(*) AS count, least(sum(moved_sat), 9223372036854775807)::bigint AS moved_sat
FROM whale_moves
WHERE seen_at >= %(since)s AND seen_at < %(until)s
GROUP BY flow
ORDER BY moved_sat DESC, flow


-- name: largest_whale_moves
-- The largest whales of a span of time.
WITH largest AS (
    SELECT txid, seen_at, moved_sat, flow, senders, receivers, sources, usd_price
    FROM whale_moves
    WHERE seen_at >= %(since)s AND flow <> 'internal_move'
    ORDER BY moved_sat DESC, txid
    LIMIT %(limit)s
)
SELECT
    txid, largest.seen_at, moved_sat, flow, senders, receivers, sources, value_sat, fee_sat, usd_price,
    round((moved_sat / 1e8 * usd_price)::numeric, 2)::float8 AS moved_usd,
    (
        SELECT min(height) FROM confirmations JOIN blocks ON hash = block_hash AND NOT stale
        WHERE confirmations.txid = largest.txid
    ) AS confirmed_height
FROM largest
LEFT JOIN transactions USING (txid)
ORDER BY moved_sat DESC, txid


-- name: list_whale_moves
-- Whales, newest first, a page at a time.
SELECT
    txid, whales.seen_at, moved_sat, flow, senders, receivers, sources, value_sat, fee_sat, usd_price,
    round((moved_sat / 1e8 * usd_price)::numeric, 2)::float8 AS moved_usd,
    (
        SELECT min(height) FROM confirmations JOIN blocks ON hash = block_hash AND NOT stale
        WHERE confirmations.txid = whales.txid
    ) AS confirmed_height
FROM whale_moves AS whales
LEFT JOIN transactions USING (txid)
WHERE
    (%(since)s::timestamptz IS NULL OR whales.seen_at >= %(since)s)
    AND (%(until)s::timestamptz IS NULL OR whales.seen_at < %(until)s)
    AND (%(flow)s::text IS NULL OR flow = %(flow)s)
    AND (%(entity)s::text IS NULL OR %(entity)s = ANY(senders) OR %(entity)s = ANY(receivers))
    AND moved_sat >= %(least)s
    AND (%(before)s::timestamptz IS NULL OR (whales.seen_at, txid) < (%(before)s, %(before_txid)s))
ORDER BY whales.seen_at DESC, txid DESC
LIMIT %(limit)s


-- name: record_whales
-- Write whales, each once.
INSERT INTO whale_moves (txid, seen_at, moved_sat, flow, senders, receivers, sources, usd_price)
SELECT txid, seen_at, moved_sat, flow, senders, receivers, sources, price.usd
FROM jsonb_to_recordset(%(moves)s) AS given (
    txid text, seen_at timestamptz, moved_sat bigint, flow text, senders text[], receivers text[], sources text[]
)
LEFT JOIN LATERAL usd_price_at(seen_at) AS price ON true
ORDER BY txid
ON CONFLICT (txid) DO UPDATE SET (flow, senders, receivers, sources) = (
    excluded.flow, excluded.senders, excluded.receivers, excluded.sources
)
WHERE
    (whale_moves.flow, whale_moves.senders, whale_moves.receivers, whale_moves.sources)
    IS DISTINCT FROM (excluded.flow, excluded.senders, excluded.receivers, excluded.sources)
