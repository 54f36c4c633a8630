-- name: told_transactions
SELECT count(*)
FROM unnest(%(one)s::text[]) AS planted (txid)
JOIN transactions USING (txid)
WHERE EXISTS (SELECT FROM sightings WHERE sightings.txid = planted.txid AND sightings.source LIKE %(nodes)s)


-- name: told_unconfirmed_parents
SELECT count(DISTINCT (prev_txid, txid))
FROM unnest(%(one)s::text[], %(other)s::text[]) AS planted (prev_txid, txid)
JOIN spends USING (prev_txid, txid)


-- name: told_replacements
SELECT count(DISTINCT (txid, replaced_by))
FROM unnest(%(one)s::text[], %(other)s::text[]) AS planted (txid, replaced_by)
JOIN removals USING (txid, replaced_by)


-- name: told_redirected
SELECT count(DISTINCT alert_key)
FROM unnest(%(one)s::text[]) AS planted (alert_key)
JOIN alerts USING (alert_key)
LEFT JOIN alert_updates USING (alert_key)
WHERE 'replacement_redirected' = ANY(kinds) OR update_key = 'kind:replacement_redirected'


-- name: told_double_spends
-- An alert is about the later of the two transactions.
SELECT count(DISTINCT (one, other))
FROM unnest(%(one)s::text[], %(other)s::text[]) AS planted (one, other)
JOIN alerts ON alert_key IN (one, other)
LEFT JOIN alert_updates USING (alert_key)
WHERE 'double_spend' = ANY(kinds) OR update_key = 'kind:double_spend'


-- name: told_confirmations
SELECT count(*)
FROM unnest(%(one)s::text[], %(other)s::text[]) AS planted (txid, block_hash)
JOIN confirmations USING (txid, block_hash)
JOIN blocks ON hash = block_hash
WHERE NOT stale


-- name: told_reorganised_blocks
SELECT count(*)
FROM unnest(%(one)s::text[]) AS planted (hash)
JOIN blocks USING (hash)
WHERE stale AND removed_at IS NOT NULL
