"""The local feed's blockchain: a mempool of what was served, blocks of it, and their JSON."""

import heapq
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import NamedTuple

import msgspec
import numpy as np

from txwatch.wire.blocks import ListedBlock
from txwatch.wire.messages import MalformedMessageError, UnconfirmedTransaction, decode
from txwatch.wire.transaction import Transaction, from_wire

_VERSION = 0x20000000
_BITS = 386_097_818


class IndexedBlock(ListedBlock, frozen=True):
    """One entry of `/blocks/<ms>`, as the service sends it."""

    block_index: int


@dataclass(frozen=True, slots=True)
class Block:
    """A block without coinbase; `time` in Unix seconds. `bodies` are the JSON objects `x` of the `txids`."""

    hash: str
    prev_block: str
    height: int
    time: int
    weight: int
    txids: tuple[str, ...]
    bodies: tuple[bytes, ...]

    @property
    def n_tx(self) -> int:
        return len(self.txids)

    def raw(self) -> bytes:
        """As `/rawblock/<hash>` gives it: with all transactions."""
        block = {
            "hash": self.hash,
            "ver": _VERSION,
            "prev_block": self.prev_block,
            "next_block": [],
            "time": self.time,
            "bits": _BITS,
            "n_tx": self.n_tx,
            "weight": self.weight,
            "block_index": self.height,
            "main_chain": True,
            "height": self.height,
            "tx": list(map(msgspec.Raw, self.bodies)),
        }
        return msgspec.json.encode(block)

    def announcement(self) -> bytes:
        """As the WebSocket announces it: an index of 0 in place of each txid."""
        body = {
            "txIndexes": [0] * self.n_tx,
            "nTx": self.n_tx,
            "weight": self.weight,
            "blockIndex": self.height,
            "prevBlockIndex": self.height - 1,
            "height": self.height,
            "hash": self.hash,
            "version": _VERSION,
            "time": self.time,
            "bits": _BITS,
            "foundBy": {"description": "Unknown", "ip": "", "link": "", "time": 0},
        }
        return msgspec.json.encode({"op": "block", "x": body})


MAX_BLOCK_WEIGHT = 4_000_000
MEAN_BLOCK_SECONDS = 600.0
FIRST_HEIGHT = 834_000
_KEPT_LISTED = 10_000
_LEADING_ZEROS = 19
_UNKNOWN_FEE_RATE = -1.0
_raw_parts = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Served(NamedTuple):
    """A transaction that came `at`; sorts from the first to be dropped to the first to be mined.

    `makers` are the txids of the transactions that made the coins it spends; made up if there are none.
    """

    fee_rate: float
    order: int
    txid: str
    weight: int
    body: bytes
    at: datetime
    makers: Sequence[str] = ()
    replaces: str | None = None


class Changes:
    """What changed in a mempool since it was asked last: what came and is still there, and what left it unmined."""

    def __init__(self) -> None:
        self.added: dict[str, Served] = {}
        self.removed: list[str] = []

    def remove(self, txid: str) -> None:
        """A transaction left; one that came and left between two questions is none."""
        if self.added.pop(txid, None) is None:
            self.removed.append(txid)


class Chain:
    """A mempool and blocks of what was served. The same seed and start give the same hashes and intervals.

    Intervals between blocks are exponential, `mean_seconds` on average. Bodies of the last `kept_blocks` blocks are
    kept, and `kept_waiting` unmined transactions; above that, the lowest fee rates are dropped, the oldest first.
    """

    def __init__(
        self,
        *,
        seed: int,
        start: datetime,
        mean_seconds: float = MEAN_BLOCK_SECONDS,
        kept_blocks: int = 144,
        kept_waiting: int = 300_000,
    ) -> None:
        self._identity = f"{seed}/{start.astimezone(UTC).isoformat()}"
        self._generator = np.random.default_rng(seed)
        self._mean_seconds = mean_seconds
        self._kept_blocks = kept_blocks
        self._kept_waiting = kept_waiting
        self._waiting: dict[str, Served] = {}
        self._cheapest: list[Served] = []
        self._mined: dict[str, Served] = {}
        self._blocks: OrderedDict[str, Block] = OrderedDict()
        self._listed: deque[IndexedBlock] = deque(maxlen=_KEPT_LISTED)
        self._order = 0
        self._height = FIRST_HEIGHT
        self.changes: Changes | None = None
        """Kept once they are wanted."""
        self.next_block_at = self._after(start)

    @property
    def waiting(self) -> int:
        """The count of transactions served and not mined yet."""
        return len(self._waiting)

    @property
    def mempool(self) -> Mapping[str, Served]:
        """The transactions served and not mined yet, by txid, the newest last."""
        return self._waiting

    @property
    def tip(self) -> str:
        """The hash of the highest block."""
        return self._hash(self._height - 1)

    def served(
        self, message: bytes, at: datetime, replaces: str | None = None, makers: Sequence[str] = ()
    ) -> Transaction | None:
        """Take one feed message into the mempool, unless its txid is known. Returns None for what is no valid `utx`.

        Of a transaction and the one that it `replaces` only one is mined: the earlier one if it is in a block already,
        or if the miners keep what they heard first; else the later one.
        """
        transaction = read_transaction(message, at)
        if transaction is None or transaction.txid in self._waiting or transaction.txid in self._mined:
            return transaction
        # In one case of four the miners keep the first, by the txid: a draw would change the intervals of blocks.
        if replaces in self._mined or (replaces in self._waiting and int(transaction.txid[-2:], 16) < 64):
            return transaction
        if replaces is not None:
            self._remove(replaces)
        self._order += 1
        fee_rate = _UNKNOWN_FEE_RATE if transaction.fee_sat is None else transaction.fee_sat / transaction.vsize
        body = bytes(_raw_parts.decode(message)["x"])
        entry = Served(fee_rate, self._order, transaction.txid, transaction.weight, body, at, tuple(makers), replaces)
        self._waiting[transaction.txid] = entry
        if self.changes is not None:
            self.changes.added[transaction.txid] = entry
        heapq.heappush(self._cheapest, entry)
        while len(self._waiting) > self._kept_waiting:
            # The heap still holds replaced transactions.
            self._remove(heapq.heappop(self._cheapest).txid)
        return transaction

    def _remove(self, txid: str) -> None:
        if self._waiting.pop(txid, None) is not None and self.changes is not None:
            self.changes.remove(txid)

    def due(self, now: datetime) -> bool:
        return now >= self.next_block_at

    def mine(self, at: datetime) -> Block:
        """Mine a block of the highest fee rates that fit, unknown fees last, and set the time of the next one."""
        taken, weight = [], 0
        for entry in sorted(self._waiting.values(), key=lambda e: (-e.fee_rate, e.order)):
            if weight + entry.weight <= MAX_BLOCK_WEIGHT:
                taken.append(entry)
                weight += entry.weight
        block = Block(
            hash=self._hash(self._height),
            prev_block=self._hash(self._height - 1),
            height=self._height,
            time=int(at.timestamp()),
            weight=weight,
            txids=tuple(e.txid for e in taken),
            bodies=tuple(e.body for e in taken),
        )
        for entry in taken:
            del self._waiting[entry.txid]
            self._mined[entry.txid] = entry
            if self.changes is not None:
                self.changes.added.pop(entry.txid, None)
        self._cheapest = list(self._waiting.values())
        heapq.heapify(self._cheapest)
        self._blocks[block.hash] = block
        self._listed.append(IndexedBlock(block.hash, block.height, block.time, block.height))
        if len(self._blocks) > self._kept_blocks:
            _, oldest = self._blocks.popitem(last=False)
            for txid in oldest.txids:
                del self._mined[txid]
        self._height += 1
        self.next_block_at = self._after(at)
        return block

    def on_day(self, milliseconds: int) -> list[IndexedBlock]:
        """The blocks of the UTC day of a Unix time, newest first. Raises OverflowError, OSError or ValueError."""
        day = datetime.fromtimestamp(milliseconds / 1000, UTC).date()
        return [listed for listed in reversed(self._listed) if datetime.fromtimestamp(listed.time, UTC).date() == day]

    def block(self, block_hash: str) -> Block | None:
        """The block of this hash, while its body is kept."""
        return self._blocks.get(block_hash)

    def transaction(self, txid: str) -> Served | None:
        """A transaction that waits or is in a kept block."""
        return self._waiting.get(txid) or self._mined.get(txid)

    def _after(self, at: datetime) -> datetime:
        return at + timedelta(seconds=float(self._generator.exponential(self._mean_seconds)))

    def _hash(self, height: int) -> str:
        digest = sha256(f"{self._identity}/{height}".encode()).hexdigest()
        return "0" * _LEADING_ZEROS + digest[_LEADING_ZEROS:]


def read_transaction(message: bytes, at: datetime) -> Transaction | None:
    """The transaction of a `utx` message, None if it is anything else or malformed."""
    try:
        decoded = decode(message)
        return from_wire(decoded.x, at) if isinstance(decoded, UnconfirmedTransaction) else None
    except MalformedMessageError:
        return None
