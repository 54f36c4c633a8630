"""The events since the last flush, ready to be landed, and the txids seen recently."""

from collections.abc import Iterable
from datetime import datetime

import msgspec

from txwatch.sources.source import BlockFound, BlockRemoved, Malformed, Removed, Seen, Told
from txwatch.store.gaps import FeedGap
from txwatch.store.life import Removal
from txwatch.store.sightings import FollowedSource, Sighting
from txwatch.store.transactions import MAX_QUARANTINED_BYTES, QuarantinedMessage
from txwatch.wire.messages import WireBlock
from txwatch.wire.transaction import Transaction

_OUTPOINTS = 1
"""The bit of a txid of which some source told the outpoints that it spends."""


class RecentTxids:
    """Remembers which sources told of at least the last `capacity` txids, at most twice as many, in two turns.

    It also remembers of which one of them told the outpoints.
    """

    def __init__(self, capacity: int = 100_000) -> None:
        self._capacity = capacity
        self._bits: dict[str, int] = {}
        self._current: dict[str, int] = {}
        self._previous: dict[str, int] = {}

    def add(self, txid: str, source: str, *, outpoints: bool = False) -> tuple[bool, bool, bool]:
        """Remember a txid. Returns whether it is new, whether it is from this source, and whether its outpoints are."""
        bit = self._bits.get(source) or self._bits.setdefault(source, _OUTPOINTS << 1 + len(self._bits))
        told = self._current.get(txid) or self._previous.get(txid, 0)
        if told & bit:
            return False, False, False
        self._current[txid] = told | bit | (_OUTPOINTS if outpoints else 0)
        if len(self._current) >= self._capacity:
            self._previous, self._current = self._current, {}
        return not told, True, outpoints and not told & _OUTPOINTS

    def known(self, txids: Iterable[str]) -> set[str]:
        """Those that are remembered, whichever source told of them."""
        return {txid for txid in txids if txid in self._current or txid in self._previous}

    def forget_source(self, txid: str, source: str) -> None:
        """Forget that a source told of a txid: it may come back there."""
        for told in (self._current, self._previous):
            if txid in told:
                told[txid] &= ~self._bits.get(source, 0)

    def forget(self, txids: Iterable[str]) -> None:
        """Forget txids that could not be kept, so that they are taken when a source tells of them again."""
        for txid in txids:
            self._current.pop(txid, None)
            self._previous.pop(txid, None)


class Batch(msgspec.Struct):
    """What was heard from `seen_from` until `seen_through`, UTC. `bytes` counts the messages' bodies."""

    seen_from: datetime
    seen_through: datetime
    transactions: list[Transaction] = []
    sightings: list[Sighting] = []
    spenders: list[Transaction] = []
    """Transactions of which a source told the outpoints, after another one had told of them without."""
    removals: list[Removal] = []
    blocks: list[WireBlock] = []
    removed_blocks: list[str] = []
    malformed: list[QuarantinedMessage] = []
    gaps: list[FeedGap] = []
    sources: list[FollowedSource] = []
    received: int = 0
    duplicates: int = 0
    ignored: int = 0
    bytes: int = 0

    def add(self, event: Told, source: str, recent: RecentTxids) -> bool:
        """File what a source told. Returns whether it was a transaction that no source had told of before."""
        self.received += 1
        if isinstance(event, Seen):
            transaction = event.transaction
            self.bytes += event.bytes
            outpoints = any(spent.txid is not None for spent in transaction.inputs)
            is_new, is_new_here, are_outpoints_new = recent.add(transaction.txid, source, outpoints=outpoints)
            if is_new:
                self.transactions.append(transaction)
            elif are_outpoints_new:
                self.spenders.append(transaction)
            if is_new_here:
                self.sightings.append(Sighting(transaction.txid, source, transaction.seen_at))
            else:
                self.duplicates += 1
            return is_new
        if isinstance(event, BlockFound):
            self.blocks.append(event.block)
            self.removed_blocks = [block_hash for block_hash in self.removed_blocks if block_hash != event.block.hash]
        elif isinstance(event, BlockRemoved):
            self.removed_blocks.append(event.hash)
        elif isinstance(event, Removed):
            self.removals.append(Removal(event.txid, source, event.at, event.replaced_by))
            recent.forget_source(event.txid, source)
        elif isinstance(event, Malformed):
            self.bytes += len(event.body)
            start = event.body[:MAX_QUARANTINED_BYTES]
            self.malformed.append(QuarantinedMessage(event.seen_at, event.reason, start, len(event.body)))
        else:
            self.bytes += event.bytes
            self.ignored += 1
        return False

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to land, though the watermark may advance."""
        return not (self.received or self.gaps)
