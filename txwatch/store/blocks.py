"""Blocks: which were announced, what they hold, and which lost a chain split."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from txwatch.store.database import Connection, read_rows, scalar, statement
from txwatch.wire.blocks import ListedBlock, MinedBlock

ASKED_FOR = timedelta(days=1)
"""Time after its announcement in which a block is asked for."""
LONGEST_SPLIT = 144
"""Blocks; nobody has seen a longer split."""


@dataclass(frozen=True)
class KnownTransaction:
    """A stored transaction that a block holds."""

    txid: str
    seen_at: datetime
    source: str


@dataclass(frozen=True)
class BlockSummary:
    """A block whose contents are known.

    `mined` counts its transactions first seen since the feed is followed, `seen_before` those of them that the feed had
    brought before the block; `completeness` is their share.
    """

    height: int
    hash: str
    block_time: datetime
    stale: bool
    mined: int
    seen_before: int

    @property
    def completeness(self) -> float | None:
        return self.seen_before / self.mined if self.mined else None


@dataclass(frozen=True)
class Link:
    """A block whose contents were fetched, with its parent. `block_time` is the miner's."""

    hash: str
    prev_hash: str
    height: int
    block_time: datetime


def unfetched_blocks(connection: Connection, now: datetime) -> list[str]:
    """Hashes of announced blocks whose contents were not fetched yet, the lowest first."""
    rows = connection.execute(
        "SELECT hash FROM blocks WHERE fetched_at IS NULL AND seen_at > %s ORDER BY height, seen_at", [now - ASKED_FOR]
    )
    return [block_hash for (block_hash,) in rows]


def announced_at(connection: Connection, block_hash: str) -> datetime | None:
    """When the feed announced this block, or None if it did not."""
    at: datetime | None = scalar(connection, "SELECT seen_at FROM blocks WHERE hash = %s AND announced", [block_hash])
    return at


def announced_before(connection: Connection, moment: datetime) -> set[str]:
    """The hashes of the blocks that the feed announced in the two weeks until a moment."""
    query = "SELECT hash FROM blocks WHERE announced AND seen_at <= %s AND seen_at > %s"
    return {block_hash for (block_hash,) in connection.execute(query, [moment, moment - timedelta(days=14)])}


def links(connection: Connection, heights: range) -> dict[str, Link]:
    """The blocks of these heights whose contents were fetched, by hash."""
    query = (
        "SELECT hash, prev_hash, height, block_time FROM blocks"
        " WHERE prev_hash IS NOT NULL AND height BETWEEN %s AND %s"
    )
    return {link.hash: link for link in read_rows(connection, Link, query, [heights.start, heights.stop - 1])}


def announced_block(connection: Connection, block_hash: str) -> ListedBlock | None:
    """A block that was announced or fetched, None without one."""
    query = "SELECT hash, height, extract(epoch FROM block_time)::bigint AS time FROM blocks WHERE hash = %s"
    return next(iter(read_rows(connection, ListedBlock, query, [block_hash])), None)


def is_missing_ancestor(connection: Connection, block: Link) -> bool:
    """Whether the parent of a block is unknown, though the chain was followed not long before it."""
    query = (
        "SELECT NOT EXISTS (SELECT FROM blocks WHERE hash = %(parent)s) AND EXISTS (SELECT FROM blocks"
        " WHERE prev_hash IS NOT NULL AND height < %(height)s AND height >= %(height)s - %(longest)s)"
    )
    values = {"height": block.height, "parent": block.prev_hash, "longest": LONGEST_SPLIT}
    return bool(scalar(connection, query, values))


def known_transactions(connection: Connection, txids: Sequence[str]) -> dict[str, KnownTransaction]:
    """Those of these transactions that are stored, by txid."""
    query = "SELECT txid, seen_at, source FROM transactions WHERE txid = ANY(%s)"
    return {row.txid: row for row in read_rows(connection, KnownTransaction, query, [list(txids)])}


def followed_since(connection: Connection) -> datetime | None:
    """The first moment from which the feed's own transactions are stored."""
    moment: datetime | None = scalar(connection, "SELECT min(seen_at) FROM transactions WHERE source = 'feed'")
    return moment


def record_contents(
    connection: Connection, block: MinedBlock, txids: Sequence[str], summary: BlockSummary, now: datetime
) -> None:
    """Record which transactions a block confirms, and how complete the store was when it came."""
    connection.execute(
        statement("store", "record_block"),
        {
            "hash": block.hash,
            "prev_hash": block.prev_block,
            "height": block.height,
            "time": block.time,
            "tx_count": block.n_tx,
            "fetched_at": now,
            "mined": summary.mined,
            "seen_before": summary.seen_before,
        },
    )
    connection.execute(
        "INSERT INTO confirmations (txid, block_hash) SELECT txid, %s FROM unnest(%s::text[]) AS t (txid)"
        " ORDER BY txid ON CONFLICT DO NOTHING",
        [block.hash, list(txids)],
    )


def record_unobtainable(connection: Connection, block_hash: str, now: datetime) -> None:
    """Record that the service has no such block, so that it is not asked for again."""
    connection.execute("UPDATE blocks SET fetched_at = %s WHERE hash = %s", [now, block_hash])


def mark_stale_branches(connection: Connection) -> None:
    """Mark the blocks that are no ancestors of the highest block. Of two equally high tips none is marked.

    A height counts only if the block was fetched and has a known parent: an announcement may say any.
    """
    connection.execute(statement("store", "mark_stale_branches"), {"longest": LONGEST_SPLIT})
