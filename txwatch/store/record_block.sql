-- A block that was never announced was missed in a gap: its own time stands for its announcement. Where it was announced,
-- its height and its time are still the block's own to say.
INSERT INTO blocks (
    hash, height, block_time, seen_at, announced, tx_count, prev_hash, fetched_at, mined_count, seen_before_count
)
VALUES (
    %(hash)s, %(height)s, to_timestamp(%(time)s), least(to_timestamp(%(time)s), %(fetched_at)s), false, %(tx_count)s,
    %(prev_hash)s, %(fetched_at)s, %(mined)s, %(seen_before)s
)
ON CONFLICT (hash) DO UPDATE SET
    height = excluded.height,
    block_time = excluded.block_time,
    tx_count = excluded.tx_count,
    prev_hash = excluded.prev_hash,
    fetched_at = excluded.fetched_at,
    mined_count = excluded.mined_count,
    seen_before_count = excluded.seen_before_count
