"""Recovery of gaps from blocks, and completeness of the feed by its blocks.

The contents of each block are fetched once, and once more for each gap that needs them later. They confirm stored
transactions, and show the share of them that the feed had brought before. For a gap that has ended, the blocks from its
start until six blocks after its end are fetched, and missing transactions are landed with `source` "block". What was
never mined cannot be recovered.

A gap is recovered once all blocks between its ends were searched: each names its parent, so that none is missed. A
block that cannot be had now is left for the next time, and holds up no other. So are the later blocks of a long gap:
announced ones come first, before most of its listings too.
"""

import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Protocol

import structlog
from msgspec import structs

from txwatch.clock import WINDOW, Clock, window_range, window_start
from txwatch.ingest.rest import GapBlocks, RestError, blocks_needed, days_listed, missing_link
from txwatch.ingest.sealing import late_windows
from txwatch.store import blocks as store
from txwatch.store.blocks import BlockSummary, KnownTransaction, Link
from txwatch.store.database import Connection
from txwatch.store.gaps import Gap, close_gap, count_recovered, note_searched, searched, unrecovered_gaps
from txwatch.store.lease import lock_lease, note_late_windows
from txwatch.store.locks import Lock, if_free
from txwatch.store.sightings import MinedTransaction, record_completeness
from txwatch.store.transactions import QuarantinedMessage, land_what_is_sound, quarantine
from txwatch.wire.blocks import ListedBlock, MinedBlock
from txwatch.wire.messages import MalformedMessageError
from txwatch.wire.transaction import Transaction

log = structlog.get_logger(__name__)

GIVEN_UP_AFTER = timedelta(hours=6)
"""Time after a block's announcement or the end of its gap: a service may have it on some machines only until then."""
FEW_LISTINGS = 6
"""Listings, of a minute in all, before announced blocks: those that a gap needs too are then read once for both."""
GAPS_FOR = timedelta(minutes=10)
"""Time for the blocks of gaps in one reading: those of a long gap take days, and what is announced must not wait."""


class Blocks(Protocol):
    """Where blocks come from: a REST API, or a node."""

    def blocks_of(self, day: date) -> list[ListedBlock]:
        """The blocks of a day, UTC. Raises RestError or MalformedMessageError."""
        ...

    def block(self, block_hash: str) -> MinedBlock | None:
        """A whole block, None if there is none. Raises RestError or MalformedMessageError."""
        ...


@dataclass
class Recovery:
    """What one reading of the chain has done: nothing if `busy`, because another reading was under way.

    `landed` counts transactions; `failures` name the listings and blocks that could not be had, with the reason.
    """

    blocks: list[BlockSummary] = field(default_factory=list)
    landed: int = 0
    gaps_closed: int = 0
    gaps_waiting: int = 0
    failures: list[str] = field(default_factory=list)
    busy: bool = False


def read_chain(
    connection: Connection,
    source: Blocks,
    clock: Clock,
    *,
    start: datetime | None = None,
    end: datetime | None = None,
) -> Recovery:
    """Fetch the contents of blocks that are new or that a gap needs, and close the gaps that they complete.

    With `start` and `end`, only for the gaps that touch that stretch. Each block is a database transaction of its own.
    Raises RestError if every request failed.
    """
    with if_free(connection, Lock.RECOVERY) as held:
        return _Reading(connection, source, clock).read(start, end) if held else Recovery(busy=True)


class _Reading:
    """One reading of the chain."""

    def __init__(self, connection: Connection, source: Blocks, clock: Clock) -> None:
        self._connection = connection
        self._source = source
        self._clock = clock
        self._gaps = unrecovered_gaps(connection)
        self._done = Recovery()
        self._answers = 0
        self._listings = 0
        self._tips: list[Link] = []
        self._until: datetime | None = None
        self._absent: set[str] = set()
        self._unobtainable: set[str] = set()
        self._failed: set[str] = set()
        self._postponed: set[str] = set()

    def read(self, start: datetime | None, end: datetime | None) -> Recovery:
        """Read the blocks that are needed, and close the gaps that are complete."""
        chosen = [gap for gap in self._gaps if gap.ended_at is not None and gap.touches(start, end)]
        needs = self._gap_blocks(chosen)
        everything = start is None and end is None
        announced = store.unfetched_blocks(self._connection, self._clock()) if everything else []
        wanted: dict[str, list[Gap]] = {block_hash: [] for block_hash in announced}
        for need in needs:
            done = searched(self._connection, need.gap.id)
            if need.gap.tip is not None:
                done |= store.announced_before(self._connection, need.gap.started_at)
            for block in need.blocks:
                if block.hash not in done:
                    wanted.setdefault(block.hash, []).append(need.gap)
        for block_hash in announced:
            self._read_end(block_hash, wanted.pop(block_hash))
        self._read_in_part(wanted)
        for tip in self._tips:
            self._read_branch(tip)
        store.mark_stale_branches(self._connection)
        for need in needs:
            self._close_if_complete(need)
        self._done.gaps_waiting = len(chosen) - self._done.gaps_closed
        if self._done.failures and not self._answers:
            raise RestError(self._done.failures[0])
        return self._done

    def _read_in_part(self, wanted: dict[str, list[Gap]]) -> None:
        """Read blocks of gaps while there is time, and postpone the others."""
        left = deque(wanted.items())
        while left and not self._is_time_up():
            block_hash, gaps = left.popleft()
            self._read_end(block_hash, gaps)
            if block_hash in self._failed:
                # Its neighbours may fail too, in each reading, until the time is up: go on elsewhere.
                left.rotate(random.randrange(len(left) + 1))  # noqa: S311 - a place, no secret
        self._postponed.update(block_hash for block_hash, _ in left)

    def _is_time_up(self) -> bool:
        """Whether GAPS_FOR is over, since the first block of a gap."""
        now = self._clock()
        self._until = self._until or now + GAPS_FOR
        return now >= self._until

    def _gap_blocks(self, gaps: Sequence[Gap]) -> list[GapBlocks]:
        """The blocks that each gap needs, from the service's listings of its days."""
        now = self._clock()
        listing = cache(self._listing)
        needs = []
        for gap in gaps:
            if gap.tip is not None:
                needs += self._blocks_to_tip(gap, gap.tip)
                continue
            listed = [block for day in days_listed(gap, now) for block in listing(day)]
            needs.append(blocks_needed(gap, listed, store.announced_before(self._connection, gap.started_at), now))
        return needs

    def _blocks_to_tip(self, gap: Gap, tip: str) -> list[GapBlocks]:
        """What a gap needs whose source was asked for its mempool at the end: what was mined until then."""
        block = store.announced_block(self._connection, tip)
        if block is None and (link := self._read_block(tip, [gap])) is not None:
            block = ListedBlock(link.hash, link.height, int(link.block_time.timestamp()))
        return [] if block is None else [GapBlocks(gap, [block], complete=True)]

    def _listing(self, day: date) -> list[ListedBlock]:
        self._listings += 1
        if self._listings > FEW_LISTINGS:
            for block_hash in store.unfetched_blocks(self._connection, self._clock()):
                self._read_end(block_hash, [])
        try:
            listing = self._source.blocks_of(day)
        except (RestError, MalformedMessageError) as error:
            self._fail(f"the blocks of {day}", error)
            return []
        self._answers += 1
        return listing

    def _read_end(self, block_hash: str, gaps: Sequence[Gap]) -> None:
        link = self._read_block(block_hash, gaps)
        if link and store.is_missing_ancestor(self._connection, link):
            self._tips.append(link)

    def _read_branch(self, tip: Link) -> None:
        """Read the unknown ancestors of a block, which were not announced, as long as each height is one less."""
        link = tip
        for _ in range(store.LONGEST_SPLIT):
            if not store.is_missing_ancestor(self._connection, link):
                return
            parent = self._read_block(link.prev_hash, [])
            if parent is None or parent.height != link.height - 1:
                return
            link = parent

    def _read_block(self, block_hash: str, gaps: Sequence[Gap]) -> Link | None:
        """Fetch a block and land what is missing; None if the block cannot be had now, or never."""
        if block_hash in self._absent | self._failed:
            return None
        try:
            block = self._source.block(block_hash)
            self._answers += 1
            if block is None:
                self._note_absent(block_hash, gaps)
                return None
            summary, landed = land_block(self._connection, block, gaps, self._gaps, self._clock)
        except (RestError, MalformedMessageError) as error:
            self._fail(f"block {block_hash}", error)
            self._failed.add(block_hash)
            return None
        self._done.blocks.append(summary)
        self._done.landed += landed
        return Link(block.hash, block.prev_block, block.height, _moment(block.time))

    def _note_absent(self, block_hash: str, gaps: Sequence[Gap]) -> None:
        self._absent.add(block_hash)
        if self._may_come(block_hash, gaps):
            log.info("block_not_there_yet", hash=block_hash)
            return
        log.warning("block_unobtainable", hash=block_hash)
        store.record_unobtainable(self._connection, block_hash, self._clock())
        self._unobtainable.add(block_hash)

    def _may_come(self, block_hash: str, gaps: Sequence[Gap]) -> bool:
        """Whether the service may have a missing block later: it was announced, or a gap ended, lately."""
        now = self._clock()
        announced = store.announced_at(self._connection, block_hash)
        moments = [gap.ended_at_or(now) for gap in gaps] + ([announced] if announced else [])
        return any(now - moment < GIVEN_UP_AFTER for moment in moments)

    def _fail(self, what: str, error: Exception) -> None:
        log.warning("chain_not_read", what=what, cause=str(error))
        self._done.failures.append(f"{what}: {error}")

    def _close_if_complete(self, need: GapBlocks) -> None:
        """Search the blocks of the chain that are not listed, and close the gap if none is left to search."""
        if not need.complete or self._postponed.intersection(block.hash for block in need.blocks):
            return
        before = store.announced_before(self._connection, need.gap.started_at)
        asked: set[str] = set()
        while True:
            links = store.links(self._connection, need.heights)
            done = searched(self._connection, need.gap.id)
            missing = missing_link(need, links, done, before)
            if missing is None or missing.hash in asked:
                break
            if asked and self._is_time_up():
                return
            if not self._read_block(missing.hash, [need.gap]):
                break
            asked.add(missing.hash)
        left: set[str] = set()
        if missing:
            # Above the missing block the chain was searched: the other listed blocks there lost a split.
            left = {block.hash for block in need.blocks if block.height < missing.height} - done
            # A service may have no blocks below those that it lists.
            if not (missing.hash in self._absent and missing.height < need.blocks[0].height):
                left.add(missing.hash)
        if not left <= self._unobtainable:
            return
        with self._connection.transaction():
            close_gap(self._connection, need.gap.id, "lost" if left else "recovered")
            first, last = window_start(need.gap.started_at), window_start(need.gap.ended_at_or(self._clock()))
            note_late_windows(self._connection, window_range(first, last + WINDOW), "gap settled")
        self._done.gaps_closed += 1


def land_block(
    connection: Connection, block: MinedBlock, gaps: Sequence[Gap], all_gaps: Sequence[Gap], clock: Clock
) -> tuple[BlockSummary, int]:
    """Record what a block holds, and land its missing transactions into the gaps that need it. Returns their number."""
    now = clock()
    transactions = block.transactions
    with connection.transaction():
        known = store.known_transactions(connection, [tx.txid for tx in transactions])
        announced = store.announced_at(connection, block.hash) or min(_moment(block.time), now)
        mined, seen_before = count_mined(transactions, known, store.followed_since(connection), announced)
        summary = BlockSummary(block.height, block.hash, _moment(block.time), False, mined, seen_before)
        landed = _land_missing(connection, [tx for tx in transactions if tx.txid not in known], gaps, all_gaps, now)
        reasons = [(f"in block {block.hash}: {reason}", body) for reason, body in block.malformed]
        quarantine(connection, [QuarantinedMessage(now, reason, body) for reason, body in reasons])
        note_searched(connection, [gap.id for gap in gaps], block.hash)
        store.record_contents(connection, block, [tx.txid for tx in transactions], summary, now)
        record_completeness(connection, block.hash, first_seen(block, known), announced, block.network)
    log.info("block_read", height=block.height, completeness=summary.completeness, landed=landed)
    return summary, landed


def first_seen(block: MinedBlock, known: dict[str, KnownTransaction]) -> list[MinedTransaction]:
    """A block's transactions with the first moment at which any source saw them, without those loaded in bulk."""
    return [
        MinedTransaction(tx.txid, stored.seen_at if stored else tx.seen_at, tx.fee_rate, block.data_bytes[tx.txid])
        for tx in block.transactions
        if (stored := known.get(tx.txid)) is None or stored.source != "bulk"
    ]


def count_mined(
    transactions: Sequence[Transaction], known: dict[str, KnownTransaction], since: datetime | None, announced: datetime
) -> tuple[int, int]:
    """Count a block's transactions first seen since `since`, and those that the feed brought before `announced`."""
    mined = seen_before = 0
    for tx in transactions:
        stored = known.get(tx.txid)
        if stored is None:
            # Times are whole seconds: the first second may lie before `since`.
            mined += since is not None and tx.seen_at > since
        elif stored.source != "bulk":
            mined += 1
            seen_before += stored.source == "feed" and stored.seen_at <= announced
    return mined, seen_before


def _land_missing(
    connection: Connection, missing: Sequence[Transaction], gaps: Sequence[Gap], all_gaps: Sequence[Gap], now: datetime
) -> int:
    if not gaps:
        return 0
    placed: list[Transaction] = []
    by_gap: dict[str, int] = {}
    # Transactions of an open gap are landed when it has ended.
    candidates = [*gaps, *(gap for gap in all_gaps if gap.ended_at is None)]
    for tx in missing:
        # The gap that holds the moment, or else the nearest one.
        gap = min(candidates, key=lambda gap: abs(gap.clamp(tx.seen_at, now) - tx.seen_at))
        if gap.ended_at is not None:
            placed.append(structs.replace(tx, seen_at=gap.clamp(tx.seen_at, now)))
            by_gap[tx.txid] = gap.id
    txids, refused = land_what_is_sound(connection, placed)
    quarantine(connection, refused)
    new = set(txids)
    count_recovered(connection, [by_gap[txid] for txid in txids])
    late = late_windows([tx for tx in placed if tx.txid in new], lock_lease(connection), now)
    note_late_windows(connection, late, "recovered from a block")
    return len(txids)


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
