WITH RECURSIVE tip AS (
    SELECT child.hash, child.prev_hash, child.height
    FROM blocks AS child
    JOIN blocks AS parent ON parent.hash = child.prev_hash AND parent.height = child.height - 1
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
