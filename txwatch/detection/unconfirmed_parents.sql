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
