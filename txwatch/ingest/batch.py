"""The messages received since the last flush, and the txids seen recently."""

from collections.abc import Iterable
from datetime import datetime

import msgspec

from txwatch.ingest.connection import Received
from txwatch.store.gaps import FeedGap
from txwatch.store.transactions import MAX_QUARANTINED_BYTES, QuarantinedMessage
from txwatch.wire.messages import (
    BlockAnnouncement,
    MalformedMessageError,
    UnconfirmedTransaction,
    UnknownOperation,
    WireBlock,
    decode,
)
from txwatch.wire.transaction import Source, Transaction, from_wire


class RecentTxids:
    """Remembers at least the last `capacity` txids, at most twice as many, in two sets that take turns."""

    def __init__(self, capacity: int = 100_000) -> None:
        self._capacity = capacity
        self._current: set[str] = set()
        self._previous: set[str] = set()

    def add(self, txid: str) -> bool:
        """Remember a txid. Returns whether it is new."""
        if txid in self._current or txid in self._previous:
            return False
        self._current.add(txid)
        if len(self._current) >= self._capacity:
            self._previous, self._current = self._current, set()
        return True

    def forget(self, txids: Iterable[str]) -> None:
        """Forget txids that could not be kept, so that they are taken when the feed sends them again."""
        gone = set(txids)
        self._current -= gone
        self._previous -= gone


class Batch(msgspec.Struct):
    """What was heard from `seen_from` until `seen_through`, UTC. `bytes` counts the messages' bodies."""

    seen_from: datetime
    seen_through: datetime
    transactions: list[Transaction] = []
    blocks: list[WireBlock] = []
    malformed: list[QuarantinedMessage] = []
    gaps: list[FeedGap] = []
    received: int = 0
    duplicates: int = 0
    ignored: int = 0
    bytes: int = 0

    def add(self, received: Received, recent: RecentTxids, source: Source = "feed") -> None:
        """Decode, validate and file one message. A malformed one goes to the quarantine with its reason."""
        self.received += 1
        self.bytes += len(received.body)
        try:
            message = decode(received.body)
            if isinstance(message, UnconfirmedTransaction):
                transaction = from_wire(message.x, received.seen_at, source)
                if recent.add(transaction.txid):
                    self.transactions.append(transaction)
                else:
                    self.duplicates += 1
            elif isinstance(message, BlockAnnouncement):
                self.blocks.append(message.x)
            elif isinstance(message, UnknownOperation):
                self.ignored += 1
        except MalformedMessageError as error:
            start = received.body[:MAX_QUARANTINED_BYTES]
            self.malformed.append(QuarantinedMessage(received.seen_at, str(error), start, len(received.body)))

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to land, though the watermark may advance."""
        return not (self.received or self.gaps)
