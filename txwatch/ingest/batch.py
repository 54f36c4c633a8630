"""The messages received since the last flush, sorted by what becomes of them."""

from collections import OrderedDict
from dataclasses import dataclass, field

from txwatch.ingest.connection import Received
from txwatch.store.landing import FeedGap, QuarantinedMessage
from txwatch.wire.messages import (
    BlockAnnouncement,
    MalformedMessageError,
    UnconfirmedTransaction,
    UnknownOperation,
    WireBlock,
    decode,
)
from txwatch.wire.transaction import Transaction, from_wire


class RecentTxids:
    """The txids seen of late, so that repetitions cost no trip to the database. Bounded; forgets the oldest."""

    def __init__(self, capacity: int = 200_000) -> None:
        self._capacity = capacity
        self._seen: OrderedDict[str, None] = OrderedDict()

    def add(self, txid: str) -> bool:
        """Remember a txid; whether it is new here."""
        if txid in self._seen:
            return False
        self._seen[txid] = None
        if len(self._seen) > self._capacity:
            self._seen.popitem(last=False)
        return True


@dataclass
class Batch:
    """One flush's worth of the feed."""

    transactions: list[Transaction] = field(default_factory=list)
    blocks: list[WireBlock] = field(default_factory=list)
    malformed: list[QuarantinedMessage] = field(default_factory=list)
    gaps: list[FeedGap] = field(default_factory=list)
    received: int = 0
    duplicates: int = 0
    ignored: int = 0

    def add(self, received: Received, recent: RecentTxids) -> None:
        """Decode, validate and file one message. Bad input goes to the quarantine with its reason, never further."""
        self.received += 1
        try:
            message = decode(received.body)
            if isinstance(message, UnconfirmedTransaction):
                transaction = from_wire(message.x, received.seen_at)
                if recent.add(transaction.txid):
                    self.transactions.append(transaction)
                else:
                    self.duplicates += 1
            elif isinstance(message, BlockAnnouncement):
                self.blocks.append(message.x)
            elif isinstance(message, UnknownOperation):
                self.ignored += 1
        except MalformedMessageError as error:
            self.malformed.append(QuarantinedMessage(received.seen_at, str(error), received.body))
