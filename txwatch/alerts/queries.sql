-- name: arrivals
SELECT count(*)::float8, percentile_cont(0.5) WITHIN GROUP (ORDER BY fee_sat::float8 / vsize)
FROM transactions
WHERE source = 'feed' AND seen_at > %(since)s AND seen_at <= %(at)s


-- name: campaign_sizes
SELECT
    alert_key, count(*), min(joined.seen_at),
    ARRAY[min(input_count), max(input_count)], ARRAY[min(output_count), max(output_count)],
    ARRAY[min(value_sat), max(value_sat)], sum(value_sat)::float8
FROM campaign_transactions AS joined
JOIN transactions USING (txid)
WHERE alert_key = ANY(%(keys)s)
GROUP BY alert_key
HAVING count(*) > 1
ORDER BY alert_key


-- name: copy_terms
-- What somebody set up in a chat, to its new id, where nothing was set up before.
INSERT INTO channels AS chats (channel, held_until, quiet_hours, min_severity, kinds, digest_every)
SELECT %(present)s, held_until, quiet_hours, min_severity, kinds, digest_every
FROM (VALUES (%(former)s)) AS moved (channel)
LEFT JOIN channels USING (channel)
ON CONFLICT (channel) DO UPDATE SET
    moved_to = NULL,
    held_until = coalesce(chats.held_until, excluded.held_until),
    quiet_hours = coalesce(chats.quiet_hours, excluded.quiet_hours),
    min_severity = coalesce(chats.min_severity, excluded.min_severity),
    kinds = coalesce(chats.kinds, excluded.kinds),
    digest_every = coalesce(chats.digest_every, excluded.digest_every)


-- name: count_alerts
SELECT
    date_bin('5 minutes', seen_at, 'epoch') AS window_start,
    count(DISTINCT alert_key),
    count(DISTINCT alert_key) FILTER (WHERE late),
    count(*) FILTER (WHERE state = 'sent'),
    count(*) FILTER (WHERE state = 'digested'),
    count(*) FILTER (WHERE state IN ('pending', 'sending')),
    count(*) FILTER (WHERE state = 'uncertain'),
    count(*) FILTER (WHERE state = 'dead')
FROM alerts
LEFT JOIN alert_deliveries USING (alert_key)
WHERE seen_at >= %(start)s AND seen_at < %(end)s
GROUP BY window_start


-- name: count_pattern
-- The transactions of one pattern until now, and in the hour before they became many.
SELECT
    (
        SELECT count(*)::float8
        FROM transactions
        WHERE source = 'feed' AND seen_at > %(since)s AND seen_at <= %(at)s
            AND input_count = %(inputs)s AND output_count = %(outputs)s
            AND outputs -> 0 ->> 'type' = %(type)s AND (outputs -> 0 ->> 'value')::bigint = %(value)s
    ),
    (
        SELECT count(*)::float8
        FROM transactions
        WHERE source = 'feed' AND seen_at > %(hour_before)s AND seen_at <= %(began)s
            AND input_count = %(inputs)s AND output_count = %(outputs)s
            AND outputs -> 0 ->> 'type' = %(type)s AND (outputs -> 0 ->> 'value')::bigint = %(value)s
    )


-- name: delivery_levels
SELECT
    count(*) FILTER (WHERE state = 'sent'),
    count(*) FILTER (WHERE state = 'digested'),
    count(*) FILTER (WHERE state IN ('pending', 'sending')),
    count(*) FILTER (WHERE state = 'uncertain'),
    count(*) FILTER (WHERE state = 'dead'),
    percentile_cont(ARRAY[0.5, 0.99]) WITHIN GROUP (ORDER BY extract(epoch FROM sent_at - seen_at)::float8 * 1000)
        FILTER (WHERE state = 'sent' AND NOT late AND alert_key NOT LIKE '%%:%%')
FROM alert_deliveries
JOIN alerts USING (alert_key)
WHERE created_at >= %(since)s


-- name: draw_sample
-- Of the most unusual share of a day's transactions those without an alert, by hash; none if the day was asked about.
WITH scored AS (
    -- The last word about each: one is scored again when its window is.
    SELECT DISTINCT ON (txid) txid, seen_at, model_version, score
    FROM transaction_scores
    WHERE seen_at >= %(since)s AND seen_at < %(until)s AND lane <> 'shadow'
    ORDER BY txid, scored_at DESC
),
ranked AS (
    SELECT txid, seen_at, model_version, percent_rank() OVER (ORDER BY score) AS share_below FROM scored
)
SELECT txid, seen_at, model_version, share_below
FROM ranked
WHERE
    share_below >= 1 - %(share)s
    AND NOT EXISTS (SELECT FROM alerts WHERE alert_key = txid)
    AND NOT EXISTS (SELECT FROM campaign_transactions AS joined WHERE joined.txid = ranked.txid)
    AND NOT EXISTS (
        SELECT FROM alerts AS asked
        WHERE %(kind)s = ANY(asked.kinds) AND asked.seen_at >= %(since)s AND asked.seen_at < %(until)s
    )
ORDER BY md5(txid || %(since)s::timestamptz::text), txid
LIMIT %(count)s


-- name: due_double_spends
-- Coins of which two unconfirmed transactions are each held by a source that never held the other one, since `held_since`
-- at the latest, and of which no double spend was alerted before. blockchain.info tells nothing of what it drops.
WITH contested AS MATERIALIZED (
    SELECT prev_txid, vout FROM contested_outpoints WHERE seen_at > %(since)s
),
held AS MATERIALIZED (
    SELECT prev_txid, vout, txid, source, sightings.seen_at
    FROM contested
    JOIN spends USING (prev_txid, vout)
    JOIN sightings USING (txid)
    JOIN feed_sources USING (source)
    WHERE source <> 'blockchain.info' AND connected AND noted_at >= %(followed_since)s
        AND NOT EXISTS (SELECT FROM feed_gaps WHERE feed_gaps.source = sightings.source AND state = 'open')
        AND NOT EXISTS (
            SELECT FROM removals WHERE removals.txid = sightings.txid AND removals.source = sightings.source
        )
)
SELECT
    prev_txid, vout, one.txid, other.txid,
    array_agg(DISTINCT one.source ORDER BY one.source), array_agg(DISTINCT other.source ORDER BY other.source)
FROM held AS one
JOIN held AS other USING (prev_txid, vout)
WHERE one.txid < other.txid
    AND greatest(one.seen_at, other.seen_at) <= %(held_since)s
    AND NOT EXISTS (SELECT FROM sightings WHERE txid = one.txid AND source = other.source)
    AND NOT EXISTS (SELECT FROM sightings WHERE txid = other.txid AND source = one.source)
    AND NOT EXISTS (
        SELECT FROM spends
        JOIN confirmations USING (txid)
        JOIN blocks ON hash = block_hash
        WHERE spends.prev_txid = one.prev_txid AND spends.vout = one.vout AND NOT stale AND blocks.seen_at <= %(heard)s
    )
    AND NOT EXISTS (
        SELECT FROM spends
        JOIN alerts ON alert_key = txid
        LEFT JOIN alert_updates ON alert_updates.alert_key = txid AND update_key = 'kind:double_spend'
        WHERE spends.prev_txid = one.prev_txid AND spends.vout = one.vout
            AND ('double_spend' = ANY(kinds) OR update_key IS NOT NULL)
    )
GROUP BY prev_txid, vout, one.txid, other.txid
ORDER BY prev_txid, vout, one.txid, other.txid


-- name: frequent_patterns
-- Patterns that `least` transactions have. Outputs are looked at only where that many have the same counts.
WITH alike AS MATERIALIZED (
    SELECT input_count, output_count
    FROM transactions
    WHERE source = 'feed' AND seen_at > %(since)s AND seen_at <= %(at)s
    GROUP BY input_count, output_count
    HAVING count(*) >= %(least)s
)
SELECT input_count, output_count, outputs -> 0 ->> 'type' AS type, (outputs -> 0 ->> 'value')::bigint AS value
FROM transactions
JOIN alike USING (input_count, output_count)
WHERE source = 'feed' AND seen_at > %(since)s AND seen_at <= %(at)s
GROUP BY input_count, output_count, type, value
HAVING count(*) >= %(least)s
ORDER BY count(*) DESC, input_count, output_count, type, value


-- name: health
-- The lag of the last minute's live transactions; of the last hour the dead deliveries and their last reason.
SELECT
    (
        SELECT percentile_cont(0.99) WITHIN GROUP (ORDER BY extract(epoch FROM landed_at - seen_at)::float8)
        FROM transactions
        WHERE source = 'feed' AND seen_at > %(now)s - interval '1 minute'
    ),
    count(*),
    (array_agg(reason ORDER BY ended_at DESC))[1]
FROM alert_deliveries
JOIN channel_requests ON request_id = id
WHERE state = 'dead' AND ended_at > %(now)s - interval '1 hour' AND alert_key NOT LIKE 'system:%%'


-- name: insert_alerts
-- In order of key, so that two lanes that raise the same alerts lock rows in one order and cannot deadlock. What only
-- certain channels should get goes to all if there is none of them any more, or each has said that it has ended.
WITH raised AS (
    INSERT INTO alerts (
        alert_key, kinds, severity, reasons, late, seen_at, model_version, created_at, usd_price, usd_price_at
    )
    SELECT alert_key, kinds, severity, reasons, late, seen_at, model_version, created_at, price.usd, price.told_at
    FROM jsonb_to_recordset(%(alerts)s::jsonb) AS given (
        alert_key text, kinds text[], severity text, reasons jsonb, late boolean, seen_at timestamptz,
        model_version text, created_at timestamptz
    )
    LEFT JOIN LATERAL usd_price_at(seen_at) AS price ON strpos(alert_key, ':') = 0
    ORDER BY alert_key
    ON CONFLICT (alert_key) DO NOTHING
    RETURNING alert_key, severity, kinds AS has
),
recipients AS (
    -- A chat that is named by two of its ids is one.
    SELECT coalesce(moved_to, channel) AS channel
    FROM unnest(%(chats)s::text[]) AS named (channel)
    LEFT JOIN channels USING (channel)
    UNION
    SELECT channel FROM channels WHERE kind <> 'telegram'
),
meant AS (
    SELECT DISTINCT alert_key, coalesce(moved_to, named) AS channel
    FROM jsonb_to_recordset(%(alerts)s::jsonb) AS given (alert_key text, channels text[])
    CROSS JOIN unnest(given.channels) AS named
    LEFT JOIN channels ON channels.channel = named
    WHERE coalesce(moved_to, named) IN (SELECT channel FROM recipients)
        AND (disabled_at IS NULL OR refused_since IS NULL)
),
addressed AS (
    INSERT INTO alert_deliveries (alert_key, channel)
    SELECT alert_key, channel
    FROM raised
    CROSS JOIN recipients
    LEFT JOIN channels USING (channel)
    WHERE array_position(%(severities)s, severity) >= coalesce(array_position(%(severities)s, min_severity), 0)
        AND disabled_at IS NULL
        AND (
            NOT EXISTS (SELECT FROM meant WHERE meant.alert_key = raised.alert_key)
            OR (alert_key, channel) IN (SELECT meant.alert_key, meant.channel FROM meant)
        )
        AND (
            kinds IS NULL
            OR has && kinds
            OR 'rule:*' = ANY(kinds) AND EXISTS (SELECT FROM unnest(has) AS kind WHERE starts_with(kind, 'rule:'))
        )
    ON CONFLICT DO NOTHING
)
SELECT alert_key FROM raised


-- name: insert_campaign_transactions
INSERT INTO campaign_transactions (txid, alert_key, event, seen_at)
SELECT * FROM unnest(%(txids)s::text[], %(keys)s::text[], %(events)s::text[], %(seen)s::timestamptz[])
ON CONFLICT DO NOTHING


-- name: insert_confirmations
-- Updates of alerts whose transactions are in a block, or no longer in one. Of what was seen after its block, such as what
-- was recovered, nothing is said of how long it took.
WITH held AS (
    SELECT
        alert_key, hash, stale, to_char(height, 'FM999,999,999') AS height,
        blocks.seen_at - alerts.seen_at AS took
    FROM alerts
    JOIN confirmations ON txid = alert_key
    JOIN blocks ON hash = block_hash
    WHERE created_at > %(now)s - interval '14 days'
)
INSERT INTO alert_updates (alert_key, update_key, text, created_at)
SELECT
    alert_key, 'confirmed:' || hash,
    '✅ confirmed in block ' || height || CASE
        WHEN took < interval '0' THEN ''
        WHEN took < interval '1 minute' THEN ', less than a minute after it was seen'
        ELSE ', ' || round(extract(epoch FROM took) / 60) || ' min after it was seen'
    END,
    %(now)s
FROM held
WHERE NOT stale
UNION ALL
SELECT
    alert_key, 'stale:' || hash,
    '⚠️ block ' || height || ' lost a chain split: not confirmed by it any more', %(now)s
FROM held
WHERE stale AND EXISTS (
    SELECT FROM alert_updates AS said WHERE said.alert_key = held.alert_key AND update_key = 'confirmed:' || hash
)
UNION ALL
SELECT alert_key, 'again:' || hash, '✅ confirmed again in block ' || height, %(now)s
FROM held
WHERE NOT stale AND EXISTS (
    SELECT FROM alert_updates AS said WHERE said.alert_key = held.alert_key AND update_key = 'stale:' || hash
)
ON CONFLICT DO NOTHING


-- name: insert_confirmed_instead
-- Updates of alerts whose transactions are in no block, while another one is that spends one of their coins.
INSERT INTO alert_updates (alert_key, update_key, text, created_at)
SELECT DISTINCT ON (alert_key, other.txid)
    alert_key, 'replaced:' || other.txid,
    '❌ ' || left(other.txid, 8) || '… was confirmed in block ' || to_char(height, 'FM999,999,999')
    || ' instead: it spends the same coin', %(now)s
FROM contested_outpoints
JOIN spends AS mine USING (prev_txid, vout)
JOIN alerts ON alert_key = mine.txid
JOIN spends AS other USING (prev_txid, vout)
JOIN confirmations ON confirmations.txid = other.txid
JOIN blocks ON hash = block_hash
WHERE other.txid <> alert_key AND NOT stale AND created_at > %(now)s - interval '14 days' AND NOT EXISTS (
    SELECT FROM confirmations AS own JOIN blocks ON hash = own.block_hash WHERE own.txid = alert_key AND NOT stale
)
ORDER BY alert_key, other.txid, height
ON CONFLICT DO NOTHING


-- name: insert_dropped
-- Updates of alerts whose transactions every source that saw them has dropped, and none replaced.
INSERT INTO alert_updates (alert_key, update_key, text, created_at)
SELECT
    txid, 'dropped:' || string_agg(DISTINCT source, ', ' ORDER BY source),
    '❌ left the mempool of ' || string_agg(DISTINCT source, ' and ' ORDER BY source) || ', nothing took its place',
    %(now)s
FROM unnest(%(alert_keys)s::text[]) AS alerted (txid)
JOIN sightings USING (txid)
LEFT JOIN removals USING (txid, source)
WHERE NOT EXISTS (
    SELECT FROM confirmations JOIN blocks ON hash = block_hash WHERE confirmations.txid = alerted.txid AND NOT stale
)
GROUP BY txid
HAVING every(removed_at IS NOT NULL) AND every(replaced_by IS NULL)
ON CONFLICT DO NOTHING


-- name: insert_followed
INSERT INTO followed_coins (alert_key, txid, vout, hop, addr, type, value_sat, seen_at)
SELECT alert_key, txid, vout, hop, addr, type, value_sat, seen_at
FROM jsonb_to_recordset(%(coins)s::jsonb) AS given (
    alert_key text, txid text, vout bigint, hop smallint, addr text, type text, value_sat bigint, seen_at timestamptz
)
ORDER BY alert_key, txid, vout
ON CONFLICT DO NOTHING


-- name: insert_replacements
-- A coin that was made or spent twice is one of several that look alike, which say nothing of each other.
WITH conflicts AS MATERIALIZED (
    SELECT alert_key, txid, height, coin
    FROM jsonb_to_recordset(%(conflicts)s::jsonb) AS given (alert_key text, txid text, height integer, coin jsonb)
),
alike AS MATERIALIZED (
    SELECT coin, count(*) FILTER (WHERE made) AS made, count(*) FILTER (WHERE NOT made) AS spent
    FROM (
        SELECT coin, true AS made
        FROM transactions
        CROSS JOIN jsonb_array_elements(outputs) AS coin
        WHERE seen_at >= %(since)s AND coin IN (SELECT coin FROM conflicts)
        UNION ALL
        SELECT coin, false
        FROM transactions
        CROSS JOIN jsonb_array_elements(inputs) AS input
        CROSS JOIN LATERAL (SELECT input - '{txid,height,coinbase}'::text[] AS coin) AS untold
        WHERE seen_at >= %(since)s AND coin IN (SELECT coin FROM conflicts) AND EXISTS (
            SELECT FROM confirmations
            JOIN blocks ON hash = block_hash
            WHERE confirmations.txid = transactions.txid AND NOT stale
        )
    ) AS uses
    GROUP BY coin
)
INSERT INTO alert_updates (alert_key, update_key, text, created_at)
SELECT DISTINCT ON (alert_key)
    alert_key, 'replaced:' || txid,
    '❌ possibly replaced: ' || left(txid, 8) || '… was confirmed in block ' || to_char(height, 'FM999,999,999')
    || ' and seems to spend the same coin', %(now)s
FROM conflicts
JOIN alike USING (coin)
WHERE made <= 1 AND spent <= 1
ORDER BY alert_key, height
ON CONFLICT DO NOTHING


-- name: insert_updates
INSERT INTO alert_updates (alert_key, update_key, text, created_at)
SELECT alert_key, update_key, text, given.created_at
FROM jsonb_to_recordset(%(updates)s::jsonb) AS given (
    alert_key text, update_key text, text text, created_at timestamptz
)
JOIN alerts USING (alert_key)
WHERE update_key <> ALL (SELECT 'kind:' || kind FROM unnest(kinds) AS kind)
ORDER BY alert_key, update_key
ON CONFLICT DO NOTHING


-- name: misses
-- Of the judged transactions of samples those that were useful, and how many transactions a day are drawn from.
WITH judged AS (
    SELECT alert_key, count(*) FILTER (WHERE verdict = 'useful') * 2 >= count(*) AS useful
    FROM feedback
    GROUP BY alert_key
)
SELECT count(*), count(*) FILTER (WHERE useful), (
    SELECT round(count(DISTINCT txid) * %(share)s)::integer
    FROM transaction_scores
    WHERE seen_at > %(day)s AND seen_at <= %(now)s AND lane <> 'shadow'
)
FROM judged
JOIN alerts USING (alert_key)
WHERE %(kind)s = ANY(kinds) AND created_at >= %(since)s


-- name: precision
WITH judged AS (
    SELECT alert_key, count(*) FILTER (WHERE verdict = 'useful') * 2 >= count(*) AS useful
    FROM feedback
    GROUP BY alert_key
)
SELECT kind, model_version, count(*), count(*) FILTER (WHERE useful)
FROM judged
JOIN alerts USING (alert_key)
CROSS JOIN unnest(kinds) AS kind
WHERE created_at >= %(since)s
GROUP BY kind, model_version
ORDER BY count(*) DESC, kind, model_version


-- name: raised_conditions
-- Those of the future first: they were raised while the clock was ahead, and any other is newer.
SELECT
    alert_key, created_at,
    EXISTS (SELECT FROM alerts AS later WHERE later.alert_key = told.alert_key || %(recovered)s)
    OR EXISTS (
        SELECT FROM alert_updates WHERE alert_updates.alert_key = told.alert_key AND update_key = %(over)s
    )
FROM alerts AS told
WHERE
    (alert_key LIKE 'system:%%' OR alert_key LIKE 'network:%%') AND right(alert_key, length(%(recovered)s)) <> %(recovered)s
ORDER BY created_at <= now(), created_at


-- name: repeat_unanswered
-- To a webhook, which knows a repetition by its key, once the request before must have ended.
UPDATE alert_deliveries SET state = 'pending'
WHERE channel = %(channel)s AND state = 'uncertain'
    AND EXISTS (SELECT FROM channels WHERE channel = %(channel)s AND kind = 'webhook')
    AND NOT EXISTS (SELECT FROM channel_requests WHERE id = request_id AND started_at > %(began_before)s)


-- name: select_anomalies
-- Of several scores of a transaction the first that found it unusual: that would have alerted.
SELECT DISTINCT ON (scores.txid)
    scores.txid, scores.seen_at, score, threshold, reasons::text, pattern, source, model_version
FROM transaction_scores AS scores
JOIN transactions USING (txid)
WHERE
    is_anomaly
    AND lane IN ('live', 'window')
    AND scores.seen_at >= %(start)s
    AND scores.seen_at < %(end)s
    AND NOT EXISTS (SELECT FROM alerts WHERE alert_key = scores.txid)
    AND NOT EXISTS (SELECT FROM campaign_transactions AS joined WHERE joined.txid = scores.txid)
ORDER BY scores.txid, scored_at


-- name: select_campaigns
SELECT event, alert_key, min(seen_at), max(seen_at)
FROM campaign_transactions
WHERE event = ANY(%(events)s) AND seen_at BETWEEN %(since)s AND %(until)s
GROUP BY event, alert_key
ORDER BY event, min(seen_at), alert_key


-- name: select_conflicts
-- Coins that an alerted transaction spends, which is in no block, and that a confirmed one seems to spend: of the same
-- address, value, type and position, once in each, and with the higher fee in the later one, as in any replacement.
-- Nothing is guessed of a transaction whose source tells the outpoints; but one of them may have replaced it.
-- Each step is materialized so that coins are hashed: the planner expects one alert, and would scan for each.
WITH alerted AS MATERIALIZED (
    SELECT txid AS alert_key, transactions.seen_at, fee_sat, coin
    FROM alerts
    JOIN transactions ON txid = alert_key
    CROSS JOIN jsonb_array_elements(inputs) AS coin
    WHERE
        created_at > %(now)s - interval '14 days' AND NOT coin ? 'txid'
        AND NOT EXISTS (
            SELECT FROM confirmations JOIN blocks ON hash = block_hash WHERE confirmations.txid = alert_key AND NOT stale
        )
    GROUP BY txid, transactions.seen_at, fee_sat, coin
    HAVING count(*) = 1
),
spent AS MATERIALIZED (
    SELECT txid, transactions.seen_at, fee_sat, height, coin
    FROM blocks
    JOIN confirmations ON block_hash = hash
    JOIN transactions USING (txid)
    CROSS JOIN jsonb_array_elements(inputs) AS input
    CROSS JOIN LATERAL (SELECT input - '{txid,height,coinbase}'::text[] AS coin) AS untold
    WHERE
        NOT stale AND fetched_at > %(now)s - interval '6 hours'
        -- The alerted one could be in the blocks after it.
        AND EXISTS (
            SELECT FROM blocks AS later
            WHERE later.height = blocks.height::bigint + %(buried)s AND later.prev_hash IS NOT NULL AND NOT later.stale
        )
    GROUP BY txid, transactions.seen_at, fee_sat, height, coin
    HAVING count(*) = 1
)
SELECT DISTINCT alert_key, txid, height, coin, least(alerted.seen_at, spent.seen_at) AS seen_at
FROM alerted
JOIN spent USING (coin)
WHERE
    txid <> alert_key
    AND coin ->> 'value' IS NOT NULL
    -- Without an address a round amount identifies no coin.
    AND (coin ->> 'addr' IS NOT NULL OR (coin ->> 'value')::bigint %% 1000 <> 0)
    AND (
        alerted.fee_sat IS NULL OR spent.fee_sat IS NULL
        OR CASE WHEN alerted.seen_at <= spent.seen_at THEN alerted.fee_sat < spent.fee_sat
            ELSE spent.fee_sat < alerted.fee_sat END
    )
    AND NOT EXISTS (
        SELECT FROM alert_updates
        WHERE alert_updates.alert_key = alerted.alert_key AND update_key = 'replaced:' || txid
    )


-- name: select_removed
-- Of the transactions that left a mempool, named or recently, those with an alert.
SELECT alert_key FROM alerts WHERE alert_key = ANY(%(removed)s)
UNION
SELECT alert_key FROM removals JOIN alerts ON alert_key = txid WHERE removed_at > %(since)s


-- name: select_replaced
-- Replacements of alerted transactions of which the alert says nothing yet: once they are stored, or late.
SELECT DISTINCT alert_key, replaced_by
FROM unnest(%(alert_keys)s::text[]) AS alerted (alert_key)
JOIN removals ON removals.txid = alert_key
WHERE replaced_by IS NOT NULL
    AND (
        removed_at < %(now)s - %(within)s::interval
        OR EXISTS (SELECT FROM transactions WHERE transactions.txid = replaced_by)
    )
    AND NOT EXISTS (
        SELECT FROM alert_updates
        WHERE alert_updates.alert_key = alerted.alert_key AND update_key = 'replaced_by:' || replaced_by
    )


-- name: select_sent_message
-- A confirmed transaction was neither replaced nor dropped; a replacement that lost its confirmation in a chain split does
-- not stand in its place; what a source still holds, or another one replaced, is not gone. The message may have been sent
-- under a former id of the chat.
SELECT
    channel,
    message_id,
    sent_at,
    coalesce(array_agg(text ORDER BY created_at, update_key) FILTER (WHERE holds), '{}'),
    count(*),
    coalesce(bool_or(confirmed OR holds AND what IN ('replaced', 'replaced_by', 'dropped', 'over')), false)
FROM (
    SELECT
        channel, message_id, sent_at, text, alert_updates.created_at, update_key, said.what, own.confirmed,
        CASE said.what
            WHEN 'replaced' THEN NOT own.confirmed AND about.confirmed
            WHEN 'replaced_by' THEN NOT own.confirmed
            WHEN 'dropped' THEN NOT own.confirmed AND said.of = own.dropped_by AND NOT own.confirmed_instead
            WHEN 'hop' THEN about.confirmed OR NOT EXISTS (SELECT FROM removals WHERE txid = said.of)
            WHEN 'stale' THEN about.stale
            WHEN 'again' THEN NOT about.stale
            WHEN 'campaign' THEN said.of::bigint = own.alike
            WHEN 'held' THEN NOT EXISTS (
                SELECT FROM alert_updates AS other
                WHERE other.alert_key = alert_deliveries.alert_key
                    AND starts_with(other.update_key, 'held:' || split_part(said.of, ':', 1) || ':')
                    AND split_part(other.update_key, ':', 3)::bigint > split_part(said.of, ':', 2)::bigint
            )
            ELSE true
        END AS holds
    FROM alert_deliveries
    JOIN alert_updates USING (alert_key)
    CROSS JOIN LATERAL (
        SELECT split_part(update_key, ':', 1) AS what, substr(update_key, strpos(update_key, ':') + 1) AS of
    ) AS said
    CROSS JOIN LATERAL (
        SELECT
            EXISTS (
                SELECT FROM confirmations JOIN blocks ON hash = block_hash WHERE txid = said.of AND NOT stale
            ) AS confirmed,
            EXISTS (SELECT FROM blocks WHERE hash = said.of AND stale) AS stale
    ) AS about
    CROSS JOIN LATERAL (
        SELECT
            (
                SELECT max(split_part(other.update_key, ':', 2)::bigint)
                FROM alert_updates AS other
                WHERE other.alert_key = alert_deliveries.alert_key AND starts_with(other.update_key, 'campaign:')
            ) AS alike,
            EXISTS (
                SELECT FROM confirmations JOIN blocks ON hash = block_hash WHERE txid = alert_key AND NOT stale
            ) AS confirmed,
            EXISTS (
                SELECT FROM alert_updates AS other
                JOIN confirmations ON txid = substr(other.update_key, 10)
                JOIN blocks ON hash = block_hash
                WHERE other.alert_key = alert_deliveries.alert_key AND starts_with(other.update_key, 'replaced:')
                    AND NOT stale
            ) AS confirmed_instead,
            (
                SELECT string_agg(DISTINCT source, ', ' ORDER BY source)
                FROM sightings
                LEFT JOIN removals USING (txid, source)
                WHERE txid = alert_key
                HAVING every(removed_at IS NOT NULL) AND every(replaced_by IS NULL)
            ) AS dropped_by
    ) AS own
    WHERE channel = ANY(%(chats)s) AND alert_key = %(alert_key)s AND state = 'sent'
) AS updates
GROUP BY channel, message_id, sent_at
ORDER BY channel = %(chat)s DESC, channel
LIMIT 1


-- name: select_followed
-- Coins that are followed and may be spent by transactions that name these makers, or these addresses.
SELECT alert_key, txid, vout, hop, addr, type, value_sat, seen_at
FROM followed_coins
WHERE txid = ANY(%(txids)s) AND seen_at > %(since)s
UNION
SELECT alert_key, txid, vout, hop, addr, type, value_sat, seen_at
FROM followed_coins
WHERE addr = ANY(%(addresses)s) AND seen_at > %(since)s
ORDER BY alert_key, hop, txid


-- name: select_matched
-- Matches of rules that alert and that no alert names: neither that of the transaction, nor one that it joined as alike.
-- Alerts that are there are not changed after a day, for a backfill would edit thousands of messages.
SELECT
    txid, matched.seen_at, matched.severity, alike_seconds, matched.reason::text, document -> 'channels', source,
    last.model_version, pattern, alert_key IS NOT NULL AS again
FROM rule_matches AS matched
LEFT JOIN rules ON rules.name = matched.rule AND rules.version = matched.version
JOIN transactions USING (txid)
LEFT JOIN alerts ON alert_key = txid
LEFT JOIN LATERAL (
    SELECT scores.model_version, pattern
    FROM transaction_scores AS scores
    WHERE scores.txid = matched.txid AND lane IN ('live', 'window')
    ORDER BY scored_at
    LIMIT 1
) AS last ON true
WHERE
    outcome = 'alert'
    AND matched.seen_at >= %(start)s
    AND matched.seen_at < %(end)s
    AND (alert_key IS NULL OR matched.seen_at > %(now)s - interval '1 day')
    AND 'rule:' || rule <> ALL (coalesce(kinds, '{}'))
    AND NOT EXISTS (
        SELECT FROM alert_updates AS said
        WHERE said.alert_key = matched.txid AND update_key = 'kind:rule:' || rule
    )
    AND NOT EXISTS (
        SELECT FROM campaign_transactions AS joined
        WHERE joined.txid = matched.txid AND starts_with(event, 'rule:' || rule || ':')
    )
ORDER BY matched.seen_at, txid, rule


-- name: select_outdated
-- Updates of the last day; older ones are left out of messages. They are counted, for one may be committed, or bear a
-- time, before another that the message shows. Of a message under a former id of the chat and one under
-- the present id the latter counts. One whose last edit has an unknown outcome waits, and lets others go first; one of the
-- future was made while the clock was ahead.
WITH updates AS (
    SELECT alert_key, max(created_at) AS updated_at
    FROM alert_updates
    WHERE created_at > %(now)s - interval '1 day'
    GROUP BY alert_key
)
SELECT alert_key
FROM updates
JOIN alert_deliveries AS sent USING (alert_key)
WHERE
    channel = ANY(%(ids)s)
    AND state = 'sent'
    AND (SELECT count(*) FROM alert_updates WHERE alert_updates.alert_key = sent.alert_key) > shown_updates
    AND (
        channel = %(channel)s
        OR NOT EXISTS (SELECT FROM alert_deliveries WHERE alert_key = sent.alert_key AND channel = %(channel)s)
    )
    AND (edit_unknown_at BETWEEN %(now)s - %(again)s::interval AND %(now)s) IS NOT TRUE
ORDER BY edit_unknown_at NULLS FIRST, updated_at, alert_key


-- name: select_pending
-- Critical ones first: they go out also while thousands of others are held.
SELECT
    alert_key, kinds[1], severity, late, seen_at, created_at,
    CASE WHEN right(reasons -> 0 ->> 'feature', 4) = '_sat' THEN coalesce((reasons -> 0 ->> 'value')::float8, 0) ELSE 0 END,
    attempts
FROM alert_deliveries
JOIN alerts USING (alert_key)
WHERE channel = %(channel)s AND state = 'pending'
ORDER BY severity <> 'critical', seen_at, alert_key
LIMIT %(most)s


-- name: select_raised_again
-- Scores with a kind that the alert of their transaction does not name: of another lane and context, or by new labels. Not
-- after a day, for a backfill would edit thousands of messages that nobody looks at any more.
SELECT
    scores.txid, scores.seen_at, score, threshold, scores.reasons::text, pattern, source, scores.model_version
FROM transaction_scores AS scores
JOIN transactions USING (txid)
JOIN alerts ON alert_key = scores.txid
WHERE
    is_anomaly
    AND lane IN ('live', 'window')
    AND scores.seen_at >= %(start)s
    AND scores.seen_at < %(end)s
    AND scores.seen_at > %(now)s - interval '1 day'
    AND EXISTS (
        SELECT 1 FROM jsonb_array_elements(scores.reasons) AS reason WHERE reason ->> 'kind' <> ALL (alerts.kinds)
    )
ORDER BY scores.txid, scored_at


-- name: select_sent_alone
SELECT requests.ended_at, kinds[1], severity
FROM channel_requests AS requests
JOIN alert_deliveries AS deliveries ON deliveries.request_id = requests.id
JOIN alerts USING (alert_key)
WHERE requests.channel = %(channel)s AND purpose = 'alert' AND started_at > %(now)s - interval '1 hour'
  AND ended_at IS NOT NULL AND state IN ('sent', 'uncertain')


-- name: tell_campaigns
-- How large each campaign is, unless that was told a short while ago. A message shows the newest of these updates.
INSERT INTO alert_updates (alert_key, update_key, text, created_at)
SELECT alert_key, 'campaign:' || size, text, %(now)s
FROM unnest(%(keys)s::text[], %(sizes)s::bigint[], %(texts)s::text[]) AS grown (alert_key, size, text)
WHERE NOT EXISTS (
    SELECT FROM alert_updates AS said
    WHERE said.alert_key = grown.alert_key AND starts_with(update_key, 'campaign:')
        AND said.created_at > %(now)s - %(every)s::interval
)
ON CONFLICT DO NOTHING


-- name: tell_held_back
-- How many matches of each rule its cap held back in an hour, in the last alert that the rule raised in it, unless that
-- was told a short while ago. A message shows the newest of these updates.
WITH held AS (
    SELECT rule, date_bin('1 hour', seen_at, 'epoch') AS hour, count(*) AS count
    FROM rule_matches
    WHERE
        outcome = 'held'
        AND seen_at >= date_bin('1 hour', %(start)s, 'epoch')
        AND seen_at < date_bin('1 hour', %(end)s, 'epoch') + interval '1 hour'
    GROUP BY rule, hour
)
INSERT INTO alert_updates (alert_key, update_key, text, created_at)
SELECT alert_key, 'held:' || rule || ':' || count, text, %(now)s
FROM held
CROSS JOIN LATERAL (
    SELECT alert_key
    FROM rule_matches AS matched
    JOIN alerts ON alert_key = txid
    WHERE matched.rule = held.rule AND outcome = 'alert'
        AND matched.seen_at >= hour AND matched.seen_at < hour + interval '1 hour'
    ORDER BY matched.seen_at DESC, txid
    LIMIT 1
) AS last
CROSS JOIN LATERAL (
    SELECT
        '⏸ ' || to_char(count, 'FM999,999,999') || CASE WHEN count >= %(most_untold)s THEN ' or' ELSE '' END
        || ' more of rule ' || rule || ' held back in the hour from '
        || to_char(hour AT TIME ZONE 'UTC', 'HH24:MI') || ' UTC' AS text
) AS said
WHERE NOT EXISTS (
    SELECT FROM alert_updates AS before
    WHERE before.alert_key = last.alert_key AND starts_with(update_key, 'held:' || rule || ':')
        AND before.created_at > %(now)s - %(every)s::interval
)
ON CONFLICT DO NOTHING


-- name: why
SELECT DISTINCT ON (txid) txid, score, threshold, is_anomaly, reasons, model_version, context_version, seen_at
FROM transaction_scores
WHERE txid >= %(from)s AND txid < %(to)s
ORDER BY txid, scored_at
LIMIT 3


-- name: select_wrong
-- The checks whose names begin with a word and that found something wrong when they were made last.
SELECT name
FROM (
    SELECT DISTINCT ON (name) name, state
    FROM health_checks
    WHERE starts_with(name, %(prefix)s)
    ORDER BY name, checked_at DESC, id DESC
) AS last
WHERE state = 'wrong'


-- name: standing
-- What was seen before a transaction: since and until when windows are counted, how many transactions, how many of them
-- with as much output and with as high a fee rate. Nothing is counted of what is below the highest hundredth of a day.
WITH newest AS (
    SELECT %(value_sat)s > p99_value_sat_24h OR %(fee_rate)s::float8 > p99_fee_rate_24h AS is_high
    FROM network_baseline
    WHERE window_start < %(until)s
    ORDER BY window_start DESC, context_version DESC
    LIMIT 1
),
counted AS (
    SELECT
        min(window_start) AS since,
        max(window_start) + interval '5 minutes' AS until,
        sum(tx_count) AS seen,
        sum((SELECT sum(n) FROM unnest(value_histogram[%(value_bin)s::integer + 1:]) AS n)) AS as_large,
        sum((SELECT sum(n) FROM unnest(fee_rate_histogram[%(fee_rate_bin)s + 1:]) AS n)) AS as_high
    FROM network_baseline AS windows
    WHERE (SELECT is_high FROM newest) AND window_start >= %(since)s AND window_start < %(until)s AND NOT EXISTS (
        SELECT FROM network_baseline AS newer
        WHERE newer.window_start = windows.window_start AND newer.context_version > windows.context_version
    )
),
recent AS (
    SELECT
        count(*) AS seen,
        count(*) FILTER (WHERE value_sat >= %(value_sat)s) AS as_large,
        count(*) FILTER (WHERE fee_sat::float8 / vsize >= %(fee_rate)s::float8) AS as_high
    FROM transactions
    WHERE seen_at >= (SELECT until FROM counted) AND seen_at >= %(uncounted_since)s AND seen_at < %(seen_at)s
)
SELECT
    counted.since, counted.until, (counted.seen + recent.seen)::bigint,
    (coalesce(counted.as_large, 0) + recent.as_large)::bigint, (counted.as_high + recent.as_high)::bigint
FROM counted
CROSS JOIN recent
WHERE since IS NOT NULL


-- name: standing_of_whale
-- Since when whales are known, how many there were before this one, and how many of them moved as much.
WITH history AS (
    SELECT min(window_start) AS since FROM network_baseline WHERE window_start >= %(since)s
),
whales AS (
    SELECT txid, moved_sat
    FROM whale_moves
    WHERE seen_at >= (SELECT since FROM history) AND seen_at < %(seen_at)s AND flow <> 'internal_move'
    UNION
    -- The live lane raises an alert before the window lane records the whale.
    SELECT alert_key, (reason ->> 'value')::float8::bigint
    FROM alerts
    CROSS JOIN LATERAL jsonb_array_elements(reasons) AS reason
    WHERE seen_at >= %(uncounted_since)s AND seen_at < %(seen_at)s
        AND 'whale' = ANY(kinds) AND reason ->> 'kind' = 'whale'
)
SELECT since, count(txid), count(txid) FILTER (WHERE moved_sat >= %(moved_sat)s)
FROM history
LEFT JOIN whales ON true
WHERE since IS NOT NULL
GROUP BY since
