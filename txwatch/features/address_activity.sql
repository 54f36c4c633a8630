-- One bucket for each address and window in [start, end): how often the address took part, and with how much.
-- An address on both sides of a transaction, or twice on one, counts once for it.
INSERT INTO address_activity (
    address, window_start, tx_count, received_sat, spent_sat, first_seen_at, last_seen_at
)
SELECT
    address,
    date_bin('5 minutes', seen_at, 'epoch') AS window_start,
    count(*),
    sum(received_sat),
    sum(spent_sat),
    min(seen_at),
    max(seen_at)
FROM (
    SELECT
        address, txid, min(seen_at) AS seen_at,
        sum(received_sat) AS received_sat, sum(spent_sat) AS spent_sat
    FROM (
        SELECT coin.addr AS address, txid, seen_at, 0 AS received_sat, coin.value AS spent_sat
        FROM transactions, jsonb_to_recordset(inputs) AS coin (addr text, value bigint)
        WHERE seen_at >= %(start)s AND seen_at < %(end)s
        UNION ALL
        SELECT coin.addr, txid, seen_at, coin.value, 0
        FROM transactions, jsonb_to_recordset(outputs) AS coin (addr text, value bigint)
        WHERE seen_at >= %(start)s AND seen_at < %(end)s
    ) AS coins
    WHERE address IS NOT NULL
    GROUP BY address, txid
) AS participations
GROUP BY address, window_start
