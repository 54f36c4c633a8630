WITH RECURSIVE tip AS (
    SELECT hash, prev_hash, height FROM blocks ORDER BY height DESC, seen_at LIMIT 1
),
best AS (
    SELECT hash, prev_hash, height FROM tip
    UNION ALL
    SELECT parent.hash, parent.prev_hash, parent.height
    FROM best
    JOIN blocks AS parent ON parent.hash = best.prev_hash
    -- Nobody has seen a split of more blocks than this.
    WHERE parent.height > (SELECT height FROM tip) - 144
)
UPDATE blocks
SET stale = judged.stale
FROM (
    SELECT blocks.hash, blocks.hash NOT IN (SELECT hash FROM best) AS stale
    FROM blocks
    WHERE height >= (SELECT min(height) FROM best) AND height < (SELECT height FROM tip)
) AS judged
WHERE blocks.hash = judged.hash AND blocks.stale <> judged.stale
