"""Recovery: what blocks say about what the feed brought, and what it did not.

The contents of every block are fetched once, and once more for each gap that needs them later. They confirm the
transactions that are stored, and show the share of them that the feed had brought before. For a gap in the feed, the
blocks from its start until six blocks after its end are fetched after it has ended, and what is missing is landed with
`source` "block". What was never mined cannot be recovered.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

import structlog
from msgspec import structs

from txwatch.clock import Clock
from txwatch.ingest.rest import BlockSource
from txwatch.ingest.sealing import late_windows
from txwatch.store import blocks as store
from txwatch.store.blocks import BlockContents, BlockSummary, KnownTransaction
from txwatch.store.database import Connection
from txwatch.store.gaps import Gap, count_recovered, note_searched, searched, settle_gap, unrecovered_gaps
from txwatch.store.landing import QuarantinedMessage, land_what_is_sound, quarantine
from txwatch.store.late_windows import note_late_windows
from txwatch.store.lease import lock_lease
from txwatch.store.locks import Lock, if_free
from txwatch.windows import WINDOW, window_range, window_start
from txwatch.wire.blocks import ListedBlock, WholeBlock, decode_block_transaction, is_coinbase
from txwatch.wire.messages import MalformedMessageError
from txwatch.wire.transaction import Transaction, from_wire

log = structlog.get_logger(__name__)

BLOCKS_AFTER = 6
"""What was broadcast in a gap is in a block by then, unless its fee was too low for the time."""


@dataclass
class Recovery:
    """What one reading of the chain has done. `busy`: another one was at it, and nothing was done."""

    blocks: list[BlockSummary] = field(default_factory=list)
    landed: int = 0
    gaps_closed: int = 0
    gaps_waiting: int = 0
    busy: bool = False


@dataclass(frozen=True)
class GapBlocks:
    """The blocks that a gap needs, by height, the lowest first. Not `complete` while the last are not mined yet."""

    gap: Gap
    blocks: list[ListedBlock]
    complete: bool


def read_chain(
    connection: Connection,
    source: BlockSource,
    clock: Clock,
    *,
    start: datetime | None = None,
    end: datetime | None = None,
) -> Recovery:
    """Fetch the contents of blocks that are new or that a gap needs, and close the gaps that they complete.

    With `start` and `end`, only for the gaps that touch that stretch. Each block is one database transaction, so that
    what was done is kept if the service gives up. Raises RestError or MalformedMessageError.
    """
    with if_free(connection, Lock.RECOVERY) as held:
        return _read_chain(connection, source, clock, start, end) if held else Recovery(busy=True)


def _read_chain(
    connection: Connection, source: BlockSource, clock: Clock, start: datetime | None, end: datetime | None
) -> Recovery:
    gaps = unrecovered_gaps(connection)
    chosen = [gap for gap in gaps if gap.ended_at is not None and gap.touches(start, end)]
    needs = gap_blocks(source, chosen, clock())
    wanted = dict.fromkeys(block.hash for need in needs for block in needed_now(connection, need))
    if start is None and end is None:
        wanted |= dict.fromkeys(store.unfetched_blocks(connection, clock()))
    done = Recovery()
    unobtainable: set[str] = set()
    queue = list(wanted)
    while queue:
        block = source.block(block_hash := queue.pop(0))
        if block is None:
            log.warning("block_unobtainable", hash=block_hash)
            store.record_unobtainable(connection, block_hash, clock())
            unobtainable.add(block_hash)
            continue
        at_height = [need.gap for need in needs if any(b.height == block.height for b in need.blocks)]
        summary, landed = take_in(connection, block, at_height, gaps, clock)
        done.blocks.append(summary)
        done.landed += landed
        if block.prev_block not in wanted and store.is_missing_ancestor(connection, block):
            # A branch that was not announced is found from its end.
            wanted[block.prev_block] = None
            queue.append(block.prev_block)
    store.mark_stale_branches(connection)
    for need in needs:
        left = {block.hash for block in needed_now(connection, need)}
        if need.complete and left <= unobtainable:
            with connection.transaction():
                settle_gap(connection, need.gap.id, "lost" if left else "recovered")
                note_late_windows(connection, windows_of(need.gap), "gap settled")
            done.gaps_closed += 1
    done.gaps_waiting = len(chosen) - done.gaps_closed
    return done


def gap_blocks(source: BlockSource, gaps: Sequence[Gap], now: datetime) -> list[GapBlocks]:
    """Which blocks each gap needs, from the service's listings of the days that they lie in."""
    listings: dict[date, list[ListedBlock]] = {}
    needs = []
    for gap in gaps:
        listed: list[ListedBlock] = []
        # Six blocks are an hour, and have taken three: into the next day, if it has begun.
        for day in days(gap.started_at - timedelta(hours=1), min(now, gap.ended_at_or(now) + timedelta(days=1))):
            if day not in listings:
                listings[day] = source.blocks_of(day)
            listed += listings[day]
        needs.append(blocks_needed(gap, listed, now))
    return needs


def blocks_needed(gap: Gap, listed: Sequence[ListedBlock], now: datetime) -> GapBlocks:
    """The blocks from a gap's start until BLOCKS_AFTER after its end.

    A block's time is set by its miner and can run behind, so the block before the first one is needed as well.
    """
    ended_at = gap.ended_at_or(now)
    by_height = sorted(listed, key=lambda block: block.height)
    after = sorted({b.height for b in by_height if _moment(b.time) >= ended_at})[:BLOCKS_AFTER]
    within = [b.height for b in by_height if _moment(b.time) >= gap.started_at.replace(microsecond=0)]
    if not within:
        return GapBlocks(gap, [], complete=False)
    first, last = min(within) - 1, after[-1] if after else max(within)
    blocks = [b for b in by_height if first <= b.height <= last]
    return GapBlocks(gap, blocks, complete=len(after) == BLOCKS_AFTER)


def needed_now(connection: Connection, need: GapBlocks) -> list[ListedBlock]:
    """Those of a gap's blocks that were not searched for what it misses."""
    done = searched(connection, need.gap.id)
    return [block for block in need.blocks if block.hash not in done]


def take_in(
    connection: Connection, block: WholeBlock, gaps: Sequence[Gap], all_gaps: Sequence[Gap], clock: Clock
) -> tuple[BlockSummary, int]:
    """Record what a block holds, and land what is missing of it into the gaps that need it. Returns the rows landed."""
    now = clock()
    transactions, malformed = block_transactions(block, now)
    with connection.transaction():
        known = store.known_transactions(connection, [tx.txid for tx in transactions])
        announced = store.announced_at(connection, block.hash) or _moment(block.time)
        contents = completeness(transactions, known, store.followed_since(connection), announced)
        landed = _land_missing(connection, [tx for tx in transactions if tx.txid not in known], gaps, all_gaps, now)
        quarantine(connection, malformed)
        note_searched(connection, [gap.id for gap in gaps], block.hash)
        store.record_contents(connection, block, [tx.txid for tx in transactions], contents, now)
    summary = BlockSummary(
        block.height,
        block.hash,
        _moment(block.time),
        stale=False,
        mined=contents.mined,
        seen_before=contents.seen_before,
    )
    log.info("block_read", height=block.height, completeness=summary.completeness, landed=landed)
    return summary, landed


def block_transactions(block: WholeBlock, now: datetime) -> tuple[list[Transaction], list[QuarantinedMessage]]:
    """A block's transactions without its coinbase, and those that are malformed.

    `seen_at` is when the service first saw a transaction, or the block's time if it does not say.
    """
    transactions, malformed = [], []
    for index, body in enumerate(block.tx):
        try:
            wire = decode_block_transaction(body)
            if index == 0 and is_coinbase(wire):
                continue
            seen_at = _moment(block.time if wire.time is None else wire.time)
            transactions.append(from_wire(wire, seen_at, "block"))
        except MalformedMessageError as error:
            reason = f"in block {block.hash}: {error}"
            malformed.append(QuarantinedMessage(now, reason, bytes(body)))
    return transactions, malformed


def completeness(
    transactions: Sequence[Transaction],
    known: dict[str, KnownTransaction],
    since: datetime | None,
    announced: datetime,
) -> BlockContents:
    """How many of a block's transactions were first seen since `since`, and how many the feed had brought by then."""
    mined = seen_before = 0
    for tx in transactions:
        stored = known.get(tx.txid)
        if stored is None:
            # Times are whole seconds: one that may lie before the beginning is not counted.
            mined += since is not None and tx.seen_at > since
        elif stored.source != "bulk":
            mined += 1
            seen_before += stored.source == "feed" and stored.seen_at <= announced
    return BlockContents(mined, seen_before)


def nearest_gap(moment: datetime, gaps: Sequence[Gap], now: datetime) -> Gap | None:
    """The gap that holds a moment, else the one nearest to it."""
    return min(gaps, key=lambda gap: abs(gap.clamp(moment, now) - moment), default=None)


def windows_of(gap: Gap) -> list[datetime]:
    """The windows that an ended gap touches."""
    if gap.ended_at is None:
        return []
    return window_range(window_start(gap.started_at), window_start(gap.ended_at) + WINDOW)


def days(start: datetime, end: datetime) -> list[date]:
    """The days, UTC, from the one that holds `start` through the one that holds `end`."""
    first = start.astimezone(UTC).date()
    return [first + timedelta(days=n) for n in range((end.astimezone(UTC).date() - first).days + 1)]


def _land_missing(
    connection: Connection, missing: Sequence[Transaction], gaps: Sequence[Gap], all_gaps: Sequence[Gap], now: datetime
) -> int:
    if not gaps:
        return 0
    placed: list[Transaction] = []
    by_gap: dict[str, int] = {}
    # A gap that lasts still has its own claim: what belongs there is landed when it has ended.
    candidates = [*gaps, *(gap for gap in all_gaps if gap.ended_at is None)]
    for tx in missing:
        gap = nearest_gap(tx.seen_at, candidates, now)
        if gap is not None and gap.ended_at is not None:
            placed.append(structs.replace(tx, seen_at=gap.clamp(tx.seen_at, now)))
            by_gap[tx.txid] = gap.id
    txids, refused = land_what_is_sound(connection, placed)
    quarantine(connection, refused)
    new = set(txids)
    count_recovered(connection, [by_gap[txid] for txid in txids])
    lease = lock_lease(connection)
    landed = [tx for tx in placed if tx.txid in new]
    note_late_windows(connection, late_windows(landed, lease, now), "recovered from a block")
    return len(txids)


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
