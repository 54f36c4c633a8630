"""What is known of blocks: which were announced, what they hold, which of them lost a chain split."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from psycopg.rows import class_row

from txwatch.store.database import Connection, statement
from txwatch.wire.blocks import WholeBlock

ASKED_FOR = timedelta(days=1)
"""A block that was announced longer ago is not asked for any more."""
LONGEST_SPLIT = 144
"""Blocks. Nobody has seen a split of more."""


@dataclass(frozen=True)
class KnownTransaction:
    """What the store knows of a transaction that a block holds."""

    txid: str
    seen_at: datetime
    source: str


@dataclass(frozen=True)
class BlockContents:
    """How complete the store was when a block came.

    `mined` counts its transactions first seen since the feed is followed, `seen_before` those of them that the feed
    had brought before the block.
    """

    mined: int
    seen_before: int


@dataclass(frozen=True)
class BlockSummary:
    """One block whose contents are known. `completeness` is the share of `mined` that was `seen_before`."""

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
    """A block whose contents were fetched, with the one before it. `block_time` is the miner's."""

    hash: str
    prev_hash: str
    height: int
    block_time: datetime


def unfetched_blocks(connection: Connection, now: datetime) -> list[str]:
    """Hashes of announced blocks whose contents are still to be fetched, the lowest first."""
    rows = connection.execute(
        "SELECT hash FROM blocks WHERE fetched_at IS NULL AND seen_at > %s ORDER BY height, seen_at", [now - ASKED_FOR]
    )
    return [block_hash for (block_hash,) in rows]


def announced_at(connection: Connection, block_hash: str) -> datetime | None:
    """When the feed announced this block, or None if it did not."""
    row = connection.execute("SELECT seen_at FROM blocks WHERE hash = %s AND announced", [block_hash]).fetchone()
    return row[0] if row else None


def announced_before(connection: Connection, moment: datetime) -> set[str]:
    """The hashes of the blocks that the feed announced until a moment, and in the two weeks before it."""
    rows = connection.execute(
        "SELECT hash FROM blocks WHERE announced AND seen_at <= %s AND seen_at > %s",
        [moment, moment - timedelta(days=14)],
    )
    return {block_hash for (block_hash,) in rows}


def links(connection: Connection, heights: range) -> dict[str, Link]:
    """The blocks of these heights whose contents were fetched, by hash."""
    with connection.cursor(row_factory=class_row(Link)) as cursor:
        rows = cursor.execute(
            "SELECT hash, prev_hash, height, block_time FROM blocks"
            " WHERE prev_hash IS NOT NULL AND height BETWEEN %s AND %s",
            [heights.start, heights.stop - 1],
        ).fetchall()
    return {link.hash: link for link in rows}


def is_missing_ancestor(connection: Connection, block: Link) -> bool:
    """Whether the block before this one was never heard of, though the chain was followed not long before it."""
    row = connection.execute(
        "SELECT NOT EXISTS (SELECT FROM blocks WHERE hash = %(parent)s) AND EXISTS (SELECT FROM blocks"
        " WHERE prev_hash IS NOT NULL AND height < %(height)s AND height >= %(height)s - %(longest)s)",
        {"height": block.height, "parent": block.prev_hash, "longest": LONGEST_SPLIT},
    ).fetchone()
    return bool(row and row[0])


def known_transactions(connection: Connection, txids: Sequence[str]) -> dict[str, KnownTransaction]:
    """Those of these transactions that are stored, by txid."""
    with connection.cursor(row_factory=class_row(KnownTransaction)) as cursor:
        rows = cursor.execute(
            "SELECT txid, seen_at, source FROM transactions WHERE txid = ANY(%s)", [list(txids)]
        ).fetchall()
    return {row.txid: row for row in rows}


def followed_since(connection: Connection) -> datetime | None:
    """The first moment from which the feed's own transactions are stored."""
    row = connection.execute("SELECT min(seen_at) FROM transactions WHERE source = 'feed'").fetchone()
    return row[0] if row else None


def record_contents(
    connection: Connection, block: WholeBlock, txids: Sequence[str], contents: BlockContents, now: datetime
) -> None:
    """Record a block's contents: which transactions it confirms, and how complete the store was when it came."""
    connection.execute(
        statement("store", "record_block"),
        {
            "hash": block.hash,
            "prev_hash": block.prev_block,
            "height": block.height,
            "time": block.time,
            "tx_count": block.n_tx,
            "fetched_at": now,
            "mined": contents.mined,
            "seen_before": contents.seen_before,
        },
    )
    connection.execute(
        "INSERT INTO confirmations (txid, block_hash) SELECT txid, %s FROM unnest(%s::text[]) AS t (txid)"
        " ORDER BY txid ON CONFLICT DO NOTHING",
        [block.hash, list(txids)],
    )


def record_unobtainable(connection: Connection, block_hash: str, now: datetime) -> None:
    """The service has no such block: it is not asked for again."""
    connection.execute("UPDATE blocks SET fetched_at = %s WHERE hash = %s", [now, block_hash])


def mark_stale_branches(connection: Connection) -> None:
    """Mark the blocks that lost a chain split, by following the highest block back through its ancestors.

    A height counts only if the block was fetched and follows on another: an announcement may say any.
    While two branches are equally high, none has lost: of the two tips none is marked.
    """
    connection.execute(statement("store", "mark_stale_branches"), {"longest": LONGEST_SPLIT})
