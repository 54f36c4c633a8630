INSERT INTO whale_moves (txid, seen_at, moved_sat, flow, senders, receivers, sources)
SELECT txid, seen_at, moved_sat, flow, senders, receivers, sources
FROM jsonb_to_recordset(%(moves)s) AS given (
    txid text, seen_at timestamptz, moved_sat bigint, flow text, senders text[], receivers text[], sources text[]
)
ORDER BY txid
ON CONFLICT (txid) DO UPDATE SET
    flow = excluded.flow,
    senders = excluded.senders,
    receivers = excluded.receivers,
    sources = excluded.sources
WHERE
    (whale_moves.flow, whale_moves.senders, whale_moves.receivers, whale_moves.sources)
    IS DISTINCT FROM (excluded.flow, excluded.senders, excluded.receivers, excluded.sources)
