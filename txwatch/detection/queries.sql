-- name: compare_with_live
-- Of the scores just computed, those that the live lane had written of the same model and context, and how many differ.
-- What was known of addresses decides as well: scores from before it last changed are not compared.
SELECT
    count(*),
    count(*) FILTER (
        WHERE (earlier.score, earlier.threshold, earlier.is_anomaly)
            IS DISTINCT FROM (staged.score, staged.threshold, staged.is_anomaly)
    )
FROM staged_scores AS staged
JOIN transaction_scores AS earlier USING (txid, model_version, context_version)
WHERE earlier.lane = 'live'
    AND earlier.scored_at > coalesce((SELECT changed_at FROM label_changes), '-infinity')


-- name: insert_scores
-- Write staged scores; those that exist stay as they are.
INSERT INTO transaction_scores (
    txid, model_version, context_version, seen_at, lane, score, threshold, is_anomaly, reasons, pattern
)
SELECT txid, model_version, context_version, seen_at, lane, score, threshold, is_anomaly, reasons, pattern
FROM staged_scores
ORDER BY txid
ON CONFLICT DO NOTHING


-- name: publish_recent_scores
-- Write the highest scores of the last hours as of a window, once: one of each pattern in each hour, for what is alike is
-- one alert.
WITH of_patterns AS (
    SELECT count(*) AS rows, max(score) AS score
    FROM transaction_scores
    WHERE seen_at >= %(since)s AND seen_at < %(as_of)s AND model_version = %(model_version)s
    GROUP BY pattern, date_bin('1 hour', seen_at, 'epoch')
)
INSERT INTO recent_scores (model_version, as_of, rows, highest)
SELECT %(model_version)s, %(as_of)s, sum(rows), (array_agg(score ORDER BY score DESC))[1:%(kept)s]
FROM of_patterns
HAVING count(*) > 0
ON CONFLICT DO NOTHING


-- name: replaced
-- Of each row the transactions that it replaces: stored earlier, not confirmed when it was seen, and spending one of its
-- coins. A source said so, or saw both, for no mempool holds both; and no source said that another one took their place.
-- As of when the row was seen, so that its window says later what was said at once. Coins that several spend are few: so
-- they are looked up first.
WITH contested AS MATERIALIZED (
    SELECT prev_txid, vout FROM contested_outpoints WHERE prev_txid = ANY(%(spent)s)
),
own AS MATERIALIZED (
    SELECT place - 1 AS row, txid, seen_at
    FROM unnest(%(txids)s::text[], %(seen_at)s::timestamptz[]) WITH ORDINALITY AS given (txid, seen_at, place)
)
SELECT DISTINCT row::integer, earlier.txid
FROM contested
JOIN spends AS mine USING (prev_txid, vout)
JOIN own ON own.txid = mine.txid
JOIN spends AS other USING (prev_txid, vout)
JOIN transactions AS earlier ON earlier.txid = other.txid
WHERE earlier.txid <> own.txid
    AND earlier.seen_at <= own.seen_at
    AND NOT EXISTS (
        SELECT FROM confirmations
        JOIN blocks ON hash = block_hash
        WHERE confirmations.txid = earlier.txid AND NOT stale AND blocks.seen_at <= own.seen_at
    )
    AND (
        EXISTS (
            SELECT FROM removals
            WHERE removals.txid = earlier.txid AND replaced_by = own.txid AND removed_at <= own.seen_at
        )
        OR (earlier.seen_at, earlier.txid) < (own.seen_at, own.txid) AND EXISTS (
            SELECT FROM sightings AS held
            JOIN sightings AS holds USING (source)
            WHERE held.txid = earlier.txid AND holds.txid = own.txid AND held.seen_at <= holds.seen_at
                AND holds.seen_at <= own.seen_at
        )
        AND NOT EXISTS (
            SELECT FROM removals
            WHERE removals.txid = earlier.txid AND replaced_by <> own.txid AND removed_at <= own.seen_at
                -- A source may tell of several at one moment.
                OR removals.txid = own.txid AND replaced_by = earlier.txid
        )
    )
ORDER BY row::integer, earlier.txid


-- name: stage_scores
-- The table that a batch of scores is copied into.
CREATE TEMP TABLE IF NOT EXISTS staged_scores ON COMMIT DELETE ROWS AS
SELECT txid, model_version, context_version, seen_at, lane, score, threshold, is_anomaly, reasons, pattern
FROM transaction_scores
WITH NO DATA


-- name: unconfirmed_ancestors
-- Of each row the transactions whose coins it spends, and those whose coins these spend, as far as none was confirmed when
-- the row was seen. One that waits by what its source says, and is not stored, has no size.
SELECT row, ancestor.txid, fee_sat, vsize
FROM (
    SELECT row, min(seen_at) AS seen_at, array_agg(txid) AS txids, array_agg(waits) AS waits
    FROM unnest(%(rows)s::integer[], %(txids)s::text[], %(waits)s::boolean[], %(seen_at)s::timestamptz[])
        AS given (row, txid, waits, seen_at)
    GROUP BY row
) AS wanted
CROSS JOIN LATERAL (
    WITH RECURSIVE ancestors (txid, waits) AS (
        SELECT * FROM unnest(txids, waits)
        UNION
        SELECT coin ->> 'txid', coin ? 'height'
        FROM ancestors
        JOIN transactions USING (txid)
        CROSS JOIN jsonb_array_elements(inputs) AS coin
        WHERE coin ? 'txid' AND coalesce((coin ->> 'height')::bigint, %(unconfirmed)s) = %(unconfirmed)s
            AND NOT EXISTS (
                SELECT FROM confirmations
                JOIN blocks ON hash = block_hash
                WHERE confirmations.txid = transactions.txid AND NOT stale AND blocks.seen_at <= wanted.seen_at
            )
    )
    SELECT ancestors.txid, fee_sat, vsize
    FROM ancestors
    LEFT JOIN transactions USING (txid)
    WHERE (ancestors.waits OR vsize IS NOT NULL) AND NOT EXISTS (
        SELECT FROM confirmations
        JOIN blocks ON hash = block_hash
        WHERE confirmations.txid = ancestors.txid AND NOT stale AND blocks.seen_at <= wanted.seen_at
    )
    LIMIT %(most)s
) AS ancestor


-- name: unconfirmed_parents
-- Of each wanted coin, the transactions of the table that made one like it, and whether they were confirmed by then.
-- Looked for in the hour before, and in the windows in which its address took part: not in all of the table.
WITH wanted AS MATERIALIZED (
    SELECT coin, txid, addr, value, type, seen_at
    FROM unnest(
        %(coins)s::integer[], %(txids)s::text[], %(addresses)s::text[], %(values)s::bigint[], %(types)s::text[],
        %(seen_at)s::timestamptz[]
    ) AS given (coin, txid, addr, value, type, seen_at)
),
spans AS MATERIALIZED (
    SELECT generate_series(
        date_bin('5 minutes', min(seen_at) - interval '1 hour', 'epoch'), max(seen_at), interval '5 minutes'
    ) AS start
    FROM wanted
    UNION
    (
        SELECT window_start
        FROM address_activity
        WHERE address IN (SELECT addr FROM wanted) AND superseded IS NULL
            AND window_start <= (SELECT max(seen_at) FROM wanted)
        GROUP BY window_start
        ORDER BY window_start DESC
        LIMIT 50
    )
)
SELECT
    coin, made.txid, made.fee_sat, made.vsize,
    EXISTS (
        SELECT FROM confirmations
        JOIN blocks ON hash = block_hash
        WHERE confirmations.txid = made.txid AND NOT stale AND blocks.seen_at <= wanted.seen_at
    ) AS confirmed
FROM spans
CROSS JOIN LATERAL (
    SELECT txid, seen_at, fee_sat, vsize, outputs
    FROM transactions
    WHERE seen_at >= start AND seen_at < start + interval '5 minutes'
) AS made
CROSS JOIN LATERAL jsonb_to_recordset(outputs) AS output (addr text, value bigint, type text)
JOIN wanted ON wanted.value = output.value AND wanted.type = output.type
    -- Equal by a hash: of 20,000 coins of one value, each would be compared with each output of that value.
    AND coalesce(wanted.addr, '') = coalesce(output.addr, '') AND made.seen_at <= wanted.seen_at AND made.txid <> wanted.txid
