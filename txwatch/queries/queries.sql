-- name: landing_latencies
-- Histogram of the time from receipt to row.
SELECT bucket, count(*), sum(seconds)::float8
FROM (
    SELECT
        extract(epoch FROM landed_at - seen_at)::float8 AS seconds,
        -- A bound belongs to its own bucket, as in Prometheus: so it is counted from above.
        cardinality(%(bounds)s::float8[])
        - (SELECT count(*) FROM unnest(%(bounds)s::float8[]) AS bound WHERE extract(epoch FROM landed_at - seen_at) <= bound)
        AS bucket
    FROM transactions
    WHERE source = 'feed' AND seen_at >= %(since)s AND seen_at < %(until)s
) AS latencies
GROUP BY bucket


-- name: case_events
SELECT
    at, CASE WHEN %(private)s THEN who ELSE regexp_replace(who, %(number)s, ' (no user name)') END AS who, action, assignee, verdict, text
FROM case_events
WHERE alert_key = %(key)s
ORDER BY id


-- name: list_cases
-- Each alert with what people did with it: its state follows from the last step that changes it.
SELECT
    alert_key, kinds, severity, seen_at, created_at,
    (SELECT value_sat FROM transactions WHERE txid = alert_key) AS value_sat, usd_price,
    reasons -> 0 ->> 'text' AS reason,
    CASE steps.last_step WHEN 'close' THEN 'closed' WHEN 'acknowledge' THEN 'acknowledged' ELSE 'open' END AS state,
    steps.assignee, CASE steps.last_step WHEN 'close' THEN steps.verdict END AS verdict,
    CASE steps.last_step WHEN 'close' THEN steps.why END AS why,
    steps.notes, steps.changed_at, steps.changed_by
FROM alerts
CROSS JOIN LATERAL (
    SELECT
        (array_agg(action ORDER BY id DESC) FILTER (WHERE action IN ('acknowledge', 'close', 'reopen')))[1] AS last_step,
        (array_agg(case_events.assignee ORDER BY id DESC) FILTER (WHERE action = 'assign'))[1] AS assignee,
        (array_agg(case_events.verdict ORDER BY id DESC) FILTER (WHERE action = 'close'))[1] AS verdict,
        (array_agg(text ORDER BY id DESC) FILTER (WHERE action = 'close'))[1] AS why,
        count(*) FILTER (WHERE action = 'note') AS notes,
        max(at) AS changed_at,
        (array_agg(CASE WHEN %(private)s THEN who ELSE regexp_replace(who, %(number)s, ' (no user name)') END ORDER BY id DESC))[1]
            AS changed_by
    FROM case_events
    WHERE case_events.alert_key = alerts.alert_key
) AS steps
WHERE
    (%(private)s OR alert_key !~ %(of_a_chat)s)
    AND (%(key)s::text IS NULL OR alert_key = %(key)s)
    AND (%(since)s::timestamptz IS NULL OR seen_at >= %(since)s)
    AND (%(until)s::timestamptz IS NULL OR seen_at < %(until)s)
    AND (%(kind)s::text IS NULL OR %(kind)s = ANY(kinds))
    AND (%(severity)s::text IS NULL OR severity = %(severity)s)
    AND (
        %(state)s::text IS NULL
        OR %(state)s = CASE last_step WHEN 'close' THEN 'closed' WHEN 'acknowledge' THEN 'acknowledged' ELSE 'open' END
    )
    AND (%(assignee)s::text IS NULL OR assignee = %(assignee)s)
    AND (%(verdict)s::text IS NULL OR (last_step = 'close' AND verdict = %(verdict)s))
    AND (
        %(before)s::timestamptz IS NULL
        OR (seen_at <= %(before)s AND (seen_at, alert_key) < (%(before)s, %(before_key)s))
    )
ORDER BY seen_at DESC, alert_key DESC
LIMIT %(limit)s


-- name: list_changes
SELECT id, changed_at, who, area, subject, action, detail
FROM changes
WHERE
    (%(area)s::text IS NULL OR area = %(area)s)
    AND (
        %(before)s::timestamptz IS NULL
        OR (changed_at <= %(before)s AND (changed_at, lpad(id::text, 19, '0')) < (%(before)s, %(before_key)s))
    )
ORDER BY changed_at DESC, id DESC
LIMIT %(limit)s


-- name: scoring_latencies
-- Histogram of the time from receipt to score, by lane.
SELECT lane, bucket, count(*), sum(seconds)::float8
FROM (
    SELECT
        lane,
        extract(epoch FROM scored_at - seen_at)::float8 AS seconds,
        cardinality(%(bounds)s::float8[])
        - (SELECT count(*) FROM unnest(%(bounds)s::float8[]) AS bound WHERE extract(epoch FROM scored_at - seen_at) <= bound)
        AS bucket
    FROM transaction_scores
    WHERE scored_at >= %(since)s AND scored_at < %(until)s
) AS latencies
GROUP BY lane, bucket


-- name: system_counts
-- Rows (metric, label, value) of what is counted by a label.
SELECT 'deliveries' AS metric, state AS label, count(*)::float8 AS value FROM alert_deliveries GROUP BY state
UNION ALL
SELECT 'gaps', state, count(*) FROM feed_gaps GROUP BY state
UNION ALL
SELECT 'alerts', severity, count(*) FROM alerts WHERE created_at > %(now)s - interval '1 hour' GROUP BY severity
UNION ALL
SELECT 'health', name, (state = 'wrong')::integer
FROM (SELECT DISTINCT ON (name) name, state FROM health_checks ORDER BY name, checked_at DESC, id DESC) AS latest
UNION ALL
SELECT 'bot', '', extract(epoch FROM noted_at) FROM telegram_bot WHERE deaf_since IS NULL
UNION ALL
SELECT 'window', 'baseline', extract(epoch FROM max(window_start)) FROM network_baseline
UNION ALL
SELECT 'window', 'features', extract(epoch FROM date_bin('5 minutes', max(seen_at), 'epoch')) FROM transaction_features
UNION ALL
SELECT 'unusual', lane, count(DISTINCT txid)
FROM unusual_scores
WHERE seen_at > %(now)s - interval '1 hour'
GROUP BY lane


-- name: agreement
-- One score a version and transaction: the highest, should it have been scored in two contexts.
WITH pairs AS (
    SELECT
        max(score) FILTER (WHERE model_version = %(a)s) AS score_a,
        max(score) FILTER (WHERE model_version = %(b)s) AS score_b,
        bool_or(score >= threshold) FILTER (WHERE model_version = %(a)s) AS unusual_a,
        bool_or(score >= threshold) FILTER (WHERE model_version = %(b)s) AS unusual_b
    FROM transaction_scores
    WHERE seen_at >= %(since)s AND (%(until)s::timestamptz IS NULL OR seen_at < %(until)s)
        AND model_version IN (%(a)s, %(b)s)
    GROUP BY txid
)
SELECT
    count(*) AS transactions,
    count(*) FILTER (WHERE unusual_a) AS unusual_a,
    count(*) FILTER (WHERE unusual_b) AS unusual_b,
    count(*) FILTER (WHERE unusual_a AND unusual_b) AS unusual_both,
    corr(score_a, score_b) AS correlation
FROM pairs
WHERE score_a IS NOT NULL AND score_b IS NOT NULL


-- name: channel_deliveries
SELECT alert_key, kinds, severity, seen_at, state, attempts, sent_at, reason
FROM alerts
JOIN alert_deliveries USING (alert_key)
WHERE channel = %(channel)s
ORDER BY seen_at DESC, alert_key DESC
LIMIT %(limit)s


-- name: count_anomalies
SELECT date_bin(%(span)s, seen_at, 'epoch') AS since, kind, count(DISTINCT txid) AS count
FROM unusual_scores
CROSS JOIN LATERAL (
    SELECT reason ->> 'kind' AS kind FROM jsonb_array_elements(reasons) AS reason
    UNION
    SELECT 'forest' WHERE reasons = '[]'
) AS kinds
WHERE seen_at >= %(start)s AND seen_at < %(end)s
GROUP BY 1, 2
ORDER BY 1, 2


-- name: feed_spans
WITH spans AS (
    SELECT since, least(since + %(span)s, %(end)s) AS until
    FROM generate_series(%(start)s::timestamptz, %(end)s::timestamptz - interval '1 microsecond', %(span)s) AS s (since)
),
landed AS (
    SELECT
        date_bin(%(span)s, seen_at, %(start)s) AS since,
        count(*) FILTER (WHERE source <> 'block') AS transactions,
        count(*) FILTER (WHERE source = 'block') AS recovered,
        least(sum(value_sat), 9223372036854775807)::bigint AS value_sat,
        percentile_cont(ARRAY[0.5, 0.99]) WITHIN GROUP (ORDER BY extract(epoch FROM landed_at - seen_at)::float8 * 1000)
            FILTER (WHERE source = 'feed') AS lags_ms
    FROM transactions
    WHERE seen_at >= %(start)s AND seen_at < %(end)s
    GROUP BY 1
),
missed AS (
    SELECT since, sum(extract(epoch FROM least(upper(stretch), until) - greatest(lower(stretch), since))) AS seconds
    FROM spans
    JOIN unnest(unheard(%(start)s, %(end)s, '')) AS stretch ON stretch && tstzrange(since, until)
    GROUP BY 1
)
SELECT
    since,
    coalesce(transactions, 0) AS transactions,
    coalesce(value_sat, 0) AS value_sat,
    lags_ms[1] AS lag_p50_ms,
    lags_ms[2] AS lag_p99_ms,
    coalesce(recovered, 0) AS recovered,
    greatest(0, 1 - coalesce(seconds, 0) / extract(epoch FROM until - since))::float8 AS heard
FROM spans
LEFT JOIN landed USING (since)
LEFT JOIN missed USING (since)
ORDER BY since


-- name: levels
-- The state of the system at this moment. Of tables that grow with traffic only the newest rows are counted.
SELECT
    (SELECT count(*) FROM transactions WHERE seen_at > %(now)s - interval '1 minute') AS transactions_1m,
    (SELECT max(seen_at) FROM transactions) AS newest_seen_at,
    (SELECT max(window_start) FROM scored_windows) AS newest_scored_window,
    newest.model_version,
    newest.threshold,
    (SELECT count(*) FROM quarantined_messages) AS quarantined,
    (SELECT count(*) FROM feed_gaps WHERE state = 'open') AS open_gaps,
    (
        SELECT coalesce(sum(extract(epoch FROM upper(stretch) - lower(stretch))), 0)::float8
        FROM unnest(unheard('-infinity', %(now)s, '')) AS stretch
    ) AS gap_seconds,
    (
        SELECT sum(seen_before_count)::float8 / nullif(sum(mined_count), 0)
        FROM blocks
        WHERE NOT stale AND seen_at > %(now)s - interval '1 day'
    ) AS completeness,
    open.pending AS deliveries_pending,
    open.uncertain AS deliveries_uncertain,
    (SELECT count(*) FROM alert_deliveries WHERE state = 'dead') AS deliveries_dead,
    open.oldest_pending_at
FROM (
    SELECT
        count(*) FILTER (WHERE state IN ('pending', 'sending')) AS pending,
        count(*) FILTER (WHERE state = 'uncertain') AS uncertain,
        min(created_at) FILTER (WHERE state IN ('pending', 'sending')) AS oldest_pending_at
    FROM alert_deliveries
    JOIN alerts USING (alert_key)
    WHERE state IN ('pending', 'sending', 'uncertain')
) AS open
LEFT JOIN (
    SELECT model_version, threshold
    FROM transaction_scores
    WHERE lane <> 'shadow'
    ORDER BY seen_at DESC
    LIMIT 1
) AS newest ON true


-- name: list_alerts
SELECT
    alert_key, kinds, severity, reasons, late, seen_at, created_at, model_version,
    coalesce(states, '{}') AS states, sent_at, coalesce(useful, 0) AS useful, coalesce(noise, 0) AS noise,
    (SELECT value_sat FROM transactions WHERE txid = alert_key) AS value_sat, usd_price, usd_price_at,
    (SELECT greatest(1, count(*)) FROM campaign_transactions AS joined WHERE joined.alert_key = alerts.alert_key) AS alike
FROM alerts
LEFT JOIN LATERAL (
    SELECT array_agg(DISTINCT state ORDER BY state) AS states, min(sent_at) AS sent_at
    FROM alert_deliveries
    WHERE alert_deliveries.alert_key = alerts.alert_key
) AS deliveries ON true
LEFT JOIN LATERAL (
    SELECT count(*) FILTER (WHERE verdict = 'useful') AS useful, count(*) FILTER (WHERE verdict = 'noise') AS noise
    FROM feedback
    WHERE feedback.alert_key = alerts.alert_key
) AS verdicts ON true
WHERE
    (%(private)s OR alert_key !~ %(of_a_chat)s)
    AND (%(key)s::text IS NULL OR alert_key = %(key)s)
    AND (%(since)s::timestamptz IS NULL OR seen_at >= %(since)s)
    AND (%(until)s::timestamptz IS NULL OR seen_at < %(until)s)
    AND (%(kind)s::text IS NULL OR %(kind)s = ANY(kinds))
    AND (%(severity)s::text IS NULL OR severity = %(severity)s)
    AND (%(state)s::text IS NULL OR %(state)s = ANY(states))
    AND (%(late)s::boolean IS NULL OR late = %(late)s)
    AND (
        %(before)s::timestamptz IS NULL
        OR (seen_at <= %(before)s AND (seen_at, alert_key) < (%(before)s, %(before_key)s))
    )
ORDER BY seen_at DESC, alert_key DESC
LIMIT %(limit)s


-- name: list_anomalies
-- Of several scores of a transaction the first that found it unusual: that is the one that alerted.
SELECT
    txid, seen_at, score, threshold, reasons, model_version, lane, scored_at,
    value_sat, fee_sat, fee_sat::float8 / vsize AS fee_rate, input_count, output_count,
    CASE WHEN %(kind)s = 'whale' THEN inputs ELSE '[]' END AS inputs,
    CASE WHEN %(kind)s = 'whale' THEN outputs ELSE '[]' END AS outputs,
    coalesce(flow, 'unknown') AS flow,
    (SELECT usd FROM usd_price_at(seen_at)) AS usd_price,
    (SELECT greatest(1, count(*)) FROM campaign_transactions AS alike WHERE alike.alert_key = found.txid) AS alike
FROM unusual_scores AS found
JOIN transactions USING (txid, seen_at)
LEFT JOIN (SELECT txid, flow FROM whale_moves) AS moves USING (txid)
WHERE
    score >= %(min_score)s
    AND (
        %(kind)s::text IS NULL
        OR reasons @> jsonb_build_array(jsonb_build_object('kind', %(kind)s::text))
        OR (%(kind)s = 'forest' AND reasons = '[]')
    )
    AND (
        %(min_value)s = 0
        OR jsonb_path_exists(
            reasons,
            '$[*] ? (@.kind == $kind && @.value >= $least)',
            jsonb_build_object('kind', %(kind)s::text, 'least', %(min_value)s::bigint)
        )
    )
    AND (%(since)s::timestamptz IS NULL OR seen_at >= %(since)s)
    AND (%(until)s::timestamptz IS NULL OR seen_at < %(until)s)
    AND (%(before)s::timestamptz IS NULL OR (seen_at <= %(before)s AND (seen_at, txid) < (%(before)s, %(before_key)s)))
    AND NOT EXISTS (
        SELECT 1
        FROM unusual_scores AS sooner
        WHERE
            sooner.txid = found.txid
            AND (sooner.scored_at, sooner.model_version, sooner.context_version)
            < (found.scored_at, found.model_version, found.context_version)
    )
ORDER BY seen_at DESC, txid DESC
LIMIT %(limit)s


-- name: list_gaps
SELECT
    id, started_at, ended_at, extract(epoch FROM coalesce(ended_at, %(now)s) - started_at)::float8 AS seconds,
    cause, ending, state, recovered, source
FROM feed_gaps
WHERE
    (%(state)s::text IS NULL OR state = %(state)s)
    AND (
        %(before)s::timestamptz IS NULL
        OR (started_at <= %(before)s AND (started_at, lpad(id::text, 19, '0')) < (%(before)s, %(before_key)s))
    )
ORDER BY started_at DESC, id DESC
LIMIT %(limit)s


-- name: list_transactions
SELECT
    txid, seen_at, value_sat, fee_sat, fee_sat::float8 / vsize AS fee_rate, vsize, input_count, output_count, rbf, source,
    (SELECT usd FROM usd_price_at(seen_at)) AS usd_price
FROM transactions
WHERE
    (%(since)s::timestamptz IS NULL OR seen_at >= %(since)s)
    AND (%(until)s::timestamptz IS NULL OR seen_at < %(until)s)
    AND value_sat >= %(min_value_sat)s
    AND (%(source)s::text IS NULL OR source = %(source)s)
    -- The first of the two is what the index is entered by.
    AND (%(before)s::timestamptz IS NULL OR (seen_at <= %(before)s AND (seen_at, txid) < (%(before)s, %(before_key)s)))
ORDER BY seen_at DESC, txid DESC
LIMIT %(limit)s


-- name: scores_by_version
SELECT
    model_version,
    bool_and(lane = 'shadow') AS shadow,
    count(*) AS scored,
    count(*) FILTER (WHERE is_anomaly) AS unusual,
    (array_agg(threshold ORDER BY scored_at DESC))[1] AS threshold,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY score) AS score_p50,
    percentile_cont(0.99) WITHIN GROUP (ORDER BY score) AS score_p99,
    min(scored_at) AS first_scored_at,
    max(scored_at) AS last_scored_at
FROM transaction_scores
WHERE seen_at >= %(since)s AND (%(until)s::timestamptz IS NULL OR seen_at < %(until)s)
GROUP BY model_version
ORDER BY max(scored_at) DESC


-- name: source_quality
-- Of each followed source: what it told in the last hour beside the others, and what it had told of the last day's blocks.
-- The newest half minute is left out: sources tell of a transaction seconds apart.
WITH told AS (
    SELECT
        source,
        seen_at,
        min(seen_at) OVER same AS first_at,
        count(*) OVER same AS sources
    FROM sightings
    WHERE seen_at > %(now)s - interval '1 hour' AND seen_at <= %(now)s - interval '30 seconds'
    WINDOW same AS (PARTITION BY txid)
),
hour AS (
    SELECT
        source,
        count(*) AS transactions,
        count(*) FILTER (WHERE sources = 1) AS alone,
        count(*) FILTER (WHERE sources > 1 AND seen_at = first_at) AS first,
        percentile_cont(ARRAY[0.5, 0.99]) WITHIN GROUP (ORDER BY extract(epoch FROM seen_at - first_at)::float8 * 1000)
            FILTER (WHERE sources > 1 AND seen_at > first_at) AS behind_ms
    FROM told
    GROUP BY source
),
everything AS (SELECT sum(1.0 / sources)::float8 AS transactions FROM told),
mined AS (
    SELECT
        source,
        sum(block_completeness.mined_count)::float8 AS mined,
        sum(block_completeness.seen_before_count)::float8 AS seen_before,
        sum(below_relay_fee + above_data_carrier)::float8 AS explained
    FROM block_completeness
    JOIN blocks ON hash = block_hash
    WHERE NOT stale AND blocks.seen_at > %(now)s - interval '1 day'
    GROUP BY source
),
missed AS (
    SELECT
        source,
        count(*) AS gaps,
        sum(extract(epoch FROM coalesce(ended_at, %(now)s) - started_at))::float8 AS gap_seconds,
        sum(recovered)::bigint AS recovered
    FROM feed_gaps
    WHERE coalesce(ended_at, %(now)s) > %(now)s - interval '1 day'
    GROUP BY source
)
SELECT
    source,
    connected AND noted_at > %(now)s - interval '1 minute' AS connected,
    text,
    followed_since,
    heard_at,
    coalesce(hour.transactions, 0) AS transactions_1h,
    hour.transactions / nullif(everything.transactions, 0) AS share_1h,
    coalesce(alone, 0) AS alone_1h,
    coalesce(first, 0) AS first_1h,
    behind_ms[1] AS behind_p50_ms,
    behind_ms[2] AS behind_p99_ms,
    seen_before / nullif(mined, 0) AS completeness_1d,
    explained / nullif(mined, 0) AS explained_1d,
    coalesce(gaps, 0) AS gaps_1d,
    coalesce(gap_seconds, 0) AS gap_seconds_1d,
    coalesce(missed.recovered, 0) AS recovered_1d
FROM feed_sources
CROSS JOIN everything
LEFT JOIN hour USING (source)
LEFT JOIN mined USING (source)
LEFT JOIN missed USING (source)
WHERE noted_at > %(now)s - interval '1 day'
ORDER BY source


-- name: status
SELECT
    (SELECT count(*) FROM transactions) AS transactions,
    (SELECT count(*) FROM transactions WHERE source = 'feed' AND seen_at >= %(since)s) AS live_transactions,
    (SELECT count(*) FROM quarantined_messages) AS quarantined,
    (SELECT count(*) FROM blocks) AS blocks,
    (SELECT count(*) FROM feed_gaps) AS gaps,
    (
        SELECT coalesce(sum(extract(epoch FROM upper(stretch) - lower(stretch))), 0)::float8
        FROM unnest(unheard('-infinity', %(now)s, '')) AS stretch
    ) AS gap_seconds,
    (
        SELECT coalesce(sum(extract(epoch FROM upper(stretch) - lower(stretch))), 0)::float8
        FROM unnest(unheard('-infinity', %(now)s, 'recovered')) AS stretch
    ) AS unrecovered_gap_seconds,
    (SELECT coalesce(sum(recovered), 0)::bigint FROM feed_gaps) AS recovered,
    -- Of what was mined since the feed is followed, the share that it had brought before the block, over the last day.
    (
        SELECT sum(seen_before_count)::float8 / nullif(sum(mined_count), 0)
        FROM blocks
        WHERE NOT stale AND seen_at > %(now)s - interval '1 day'
    ) AS completeness,
    (SELECT count(*) FROM scored_windows) AS windows_scored,
    (
        SELECT count(*)
        FROM scored_windows
        WHERE window_start > %(since)s - interval '5 minutes' AND EXISTS (
            SELECT FROM transactions
            WHERE source = 'feed' AND seen_at >= %(since)s
                AND seen_at >= window_start AND seen_at < window_start + interval '5 minutes'
        )
    ) AS live_windows_scored,
    (SELECT count(DISTINCT txid) FROM unusual_scores) AS anomalies,
    (
        SELECT percentile_cont(ARRAY[0.5, 0.99])
            WITHIN GROUP (ORDER BY extract(epoch FROM landed_at - seen_at)::float8 * 1000)
        FROM transactions
        WHERE source = 'feed' AND seen_at >= %(since)s
    ) AS landing_ms,
    (
        SELECT percentile_cont(ARRAY[0.5, 0.99])
            WITHIN GROUP (ORDER BY extract(epoch FROM scored_at - seen_at)::float8 * 1000)
        FROM transaction_scores
        WHERE seen_at >= %(since)s AND lane <> 'shadow'
    ) AS scoring_ms,
    (
        SELECT coalesce(jsonb_object_agg(state, n), '{}')
        FROM (SELECT state, count(*) AS n FROM alert_deliveries GROUP BY state) AS by_state
    ) AS alerts,
    (SELECT model_version FROM transaction_scores WHERE lane <> 'shadow' ORDER BY seen_at DESC LIMIT 1) AS model_version


-- name: transaction_life
-- What became of a transaction, in order.
SELECT at, event, source, other, height
FROM (
    SELECT seen_at AS at, 'seen' AS event, source, NULL::text AS other, NULL::integer AS height, 0 AS place
    FROM sightings
    WHERE txid = %(txid)s
    UNION ALL
    SELECT removed_at, CASE WHEN replaced_by IS NULL THEN 'removed' ELSE 'replaced' END, source, replaced_by, NULL, 1
    FROM removals
    WHERE txid = %(txid)s
    UNION ALL
    SELECT greatest(blocks.seen_at, transactions.seen_at), 'confirmed', NULL, block_hash, height, 2
    FROM confirmations
    JOIN blocks ON hash = block_hash
    JOIN transactions USING (txid)
    WHERE txid = %(txid)s
    UNION ALL
    SELECT coalesce(removed_at, blocks.seen_at), 'unconfirmed', NULL, block_hash, height, 3
    FROM confirmations
    JOIN blocks ON hash = block_hash
    WHERE txid = %(txid)s AND stale
) AS events
ORDER BY at, place
LIMIT 100


-- name: confirmed_in
SELECT min(height)
FROM confirmations
JOIN blocks ON hash = block_hash
WHERE confirmations.txid = %(txid)s AND NOT stale


-- name: transaction_detail
SELECT
    txid, seen_at, feed_time, landed_at, source, value_sat, input_sat, fee_sat, fee_sat::float8 / vsize AS fee_rate,
    vsize, weight, size, rbf, version, lock_time, inputs, outputs, tip_height,
    (
        SELECT min(height)
        FROM confirmations
        JOIN blocks ON hash = block_hash
        WHERE confirmations.txid = transactions.txid AND NOT stale
    ) AS confirmed_in,
    (SELECT usd FROM usd_price_at(seen_at)) AS usd_price
FROM transactions
WHERE txid = %(txid)s



-- name: traffic
SELECT
    since, transactions, value_sat,
    fee_rates[1] AS fee_rate_p10, fee_rates[2] AS fee_rate_p50, fee_rates[3] AS fee_rate_p90
FROM (
    SELECT
        date_bin(%(span)s, seen_at, 'epoch') AS since,
        count(*) AS transactions,
        least(sum(value_sat), 9223372036854775807)::bigint AS value_sat,
        percentile_cont(ARRAY[0.1, 0.5, 0.9]) WITHIN GROUP (ORDER BY fee_sat::float8 / vsize) AS fee_rates
    FROM transactions
    WHERE seen_at >= %(start)s AND seen_at < %(end)s
    GROUP BY 1
) AS spans
ORDER BY since


-- name: sample_traffic
WITH unusual AS (
    SELECT DISTINCT ON (seen_at, txid)
        txid, seen_at,
        CASE WHEN reasons = '[]' THEN ARRAY['forest']
        ELSE ARRAY(SELECT DISTINCT reason ->> 'kind' FROM jsonb_array_elements(reasons) AS reason) END AS kinds
    FROM unusual_scores
    WHERE seen_at >= %(start)s AND seen_at < %(end)s
    ORDER BY seen_at DESC, txid
    LIMIT %(unusual)s
)
SELECT txid, seen_at, value_sat, fee_sat::float8 / vsize AS fee_rate, kinds
FROM unusual
JOIN transactions USING (txid, seen_at)
UNION ALL
SELECT txid, seen_at, value_sat, fee_sat::float8 / vsize, ARRAY[]::text[]
FROM generate_series(date_bin(%(part)s, %(first)s, 'epoch'), %(end)s, %(part)s) AS parts (since)
CROSS JOIN LATERAL (
    SELECT txid, seen_at, value_sat, fee_sat, vsize
    FROM transactions
    WHERE seen_at >= greatest(since, %(start)s) AND seen_at < least(since + %(part)s, %(end)s)
    ORDER BY seen_at
    LIMIT %(of_each)s
) AS first_of_part


-- name: list_campaigns
SELECT
    alert_key, kinds, severity, campaigns.transactions, first_seen_at, last_seen_at, value_sat, usd_price
FROM (
    SELECT alert_key, count(*) AS transactions, min(joined.seen_at) AS first_seen_at, max(joined.seen_at) AS last_seen_at,
        CASE WHEN count(value_sat) > 0 THEN least(sum(value_sat), 9223372036854775807)::bigint END AS value_sat
    FROM campaign_transactions AS joined
    LEFT JOIN transactions USING (txid)
    WHERE alert_key IN (
        SELECT alert_key FROM campaign_transactions WHERE seen_at >= %(start)s AND seen_at < %(end)s
    )
    GROUP BY alert_key
    HAVING count(*) > 1
) AS campaigns
JOIN alerts USING (alert_key)
ORDER BY campaigns.transactions DESC, alert_key
LIMIT %(limit)s


-- name: find_transactions
-- Hex digits sort before letters, so that the prefix is a range of the key.
SELECT txid, seen_at, value_sat, EXISTS (SELECT FROM alerts WHERE alert_key = txid) AS alerted
FROM transactions
WHERE txid >= %(prefix)s AND txid < %(prefix)s || 'g'
ORDER BY txid
LIMIT 20


-- name: find_amounts
SELECT txid, seen_at, value_sat, EXISTS (SELECT FROM alerts WHERE alert_key = txid) AS alerted
FROM (SELECT txid, seen_at, value_sat FROM transactions ORDER BY seen_at DESC LIMIT %(among)s) AS newest
WHERE value_sat BETWEEN %(least)s AND %(most)s
ORDER BY seen_at DESC, txid
LIMIT 20


-- name: find_addresses
SELECT address, entity, category, source, watch_list.note AS watched
FROM labels
FULL JOIN watch_list USING (address)
WHERE address IN (%(text)s, %(prefix)s)
ORDER BY address, source
LIMIT 20


-- name: find_entities
-- Names as they are written; what a person types is no pattern.
SELECT
    entity, array_agg(DISTINCT category ORDER BY category) AS categories, count(DISTINCT address) AS addresses,
    array_agg(DISTINCT source ORDER BY source) AS sources
FROM labels
WHERE strpos(lower(entity), %(prefix)s) > 0
GROUP BY entity
ORDER BY lower(entity) <> %(prefix)s, count(DISTINCT address) DESC, entity
LIMIT 20


-- name: transactions_of_address
-- No index has all addresses of all transactions: the windows in which it was active say where to look.
WITH active AS (
    SELECT DISTINCT window_start
    FROM address_activity
    WHERE address IN (%(text)s, %(prefix)s)
    ORDER BY window_start DESC
    LIMIT %(windows)s
),
stretches AS (
    SELECT window_start AS since, window_start + interval '5 minutes' AS until FROM active
    UNION ALL
    SELECT %(now)s - interval '15 minutes', %(now)s
),
near AS (
    SELECT DISTINCT txid, seen_at, inputs, outputs, fee_sat
    FROM stretches
    JOIN transactions ON seen_at >= since AND seen_at < until
    WHERE
        inputs @> jsonb_build_array(jsonb_build_object('addr', %(text)s::text))
        OR outputs @> jsonb_build_array(jsonb_build_object('addr', %(text)s::text))
        OR inputs @> jsonb_build_array(jsonb_build_object('addr', %(prefix)s::text))
        OR outputs @> jsonb_build_array(jsonb_build_object('addr', %(prefix)s::text))
)
SELECT
    txid, seen_at, received.sat AS received_sat, spent.sat AS spent_sat, fee_sat,
    EXISTS (SELECT FROM alerts WHERE alert_key = txid) AS alerted
FROM near
CROSS JOIN LATERAL (
    SELECT least(coalesce(sum(value), 0), 9223372036854775807)::bigint AS sat
    FROM jsonb_to_recordset(outputs) AS coin (addr text, value bigint)
    WHERE addr IN (%(text)s, %(prefix)s)
) AS received
CROSS JOIN LATERAL (
    SELECT least(coalesce(sum(value), 0), 9223372036854775807)::bigint AS sat
    FROM jsonb_to_recordset(inputs) AS coin (addr text, value bigint)
    WHERE addr IN (%(text)s, %(prefix)s)
) AS spent
ORDER BY seen_at DESC, txid
LIMIT 20
