"""The local feed's blockchain: what was served waits until a block takes it, and how blocks are shown."""

import heapq
from collections import OrderedDict, deque
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import NamedTuple

import msgspec
import numpy as np

from txwatch.wire.messages import MalformedMessageError, UnconfirmedTransaction, decode
from txwatch.wire.transaction import Transaction, from_wire

_VERSION = 0x20000000
_BITS = 386_097_818


class BlockSummary(msgspec.Struct, frozen=True):
    """One entry of `/blocks/<ms>`."""

    hash: str
    height: int
    time: int
    block_index: int


@dataclass(frozen=True, slots=True)
class Block:
    """A block without coinbase. `bodies` are the transactions' JSON objects `x`, in the order of `txids`."""

    hash: str
    prev_block: str
    height: int
    time: int
    """Unix seconds."""
    weight: int
    txids: tuple[str, ...]
    bodies: tuple[bytes, ...]

    @property
    def n_tx(self) -> int:
        return len(self.txids)

    def summary(self) -> BlockSummary:
        """As `/blocks/<ms>` lists it."""
        return BlockSummary(self.hash, self.height, self.time, self.height)

    def raw(self) -> bytes:
        """As `/rawblock/<hash>` gives it: with all transactions."""
        header = {
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
        }
        return msgspec.json.encode(header)[:-1] + b',"tx":[' + b",".join(self.bodies) + b"]}"

    def announcement(self) -> bytes:
        """As the WebSocket announces it: no txids, an index of 0 for each transaction."""
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
_DAY = timedelta(days=1)
_KEPT_SUMMARIES = 10_000
_LEADING_ZEROS = 19
_UNKNOWN_FEE_RATE = -1.0


class _Envelope(msgspec.Struct):
    x: msgspec.Raw


class _Waiting(NamedTuple):
    """A transaction of the mempool; sorts from the first to be dropped to the first to be mined."""

    fee_rate: float
    order: int
    txid: str
    weight: int
    body: bytes


_envelope = msgspec.json.Decoder(_Envelope)


class Chain:
    """A blockchain that holds what it was told of. The same seed and start give the same hashes and intervals.

    Blocks come at exponentially distributed intervals, `mean_seconds` on average. Bodies of the last `kept_blocks`
    blocks and at most `kept_waiting` unmined transactions are kept; above that, the lowest fee rate is dropped, and
    the oldest among equals.
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
        self._waiting: dict[str, _Waiting] = {}
        self._cheapest: list[_Waiting] = []
        self._mined: dict[str, bytes] = {}
        self._blocks: OrderedDict[str, Block] = OrderedDict()
        self._summaries: deque[BlockSummary] = deque(maxlen=_KEPT_SUMMARIES)
        self._order = 0
        self._height = FIRST_HEIGHT
        self.next_block_at = self._after(start)

    @property
    def waiting(self) -> int:
        """Transactions served and not yet mined."""
        return len(self._waiting)

    def served(self, message: bytes, at: datetime, replaces: str | None = None) -> Transaction | None:
        """Take one feed message into the mempool.

        Gives the transaction, or None for what is no valid `utx`: that is never mined. A txid that is known already
        is not taken again. Of a transaction and the one that it `replaces` only one is mined: the earlier one if it
        is in a block already, or if the miners keep what they heard first; else the later one.
        """
        transaction = read_transaction(message, at)
        if transaction is None or transaction.txid in self._waiting or transaction.txid in self._mined:
            return transaction
        if replaces in self._mined or (replaces in self._waiting and _miners_keep_the_first(transaction.txid)):
            return transaction
        if replaces is not None:
            self._waiting.pop(replaces, None)
        self._order += 1
        fee_rate = _UNKNOWN_FEE_RATE if transaction.fee_sat is None else transaction.fee_sat / transaction.vsize
        body = bytes(_envelope.decode(message).x)
        entry = _Waiting(fee_rate, self._order, transaction.txid, transaction.weight, body)
        self._waiting[transaction.txid] = entry
        heapq.heappush(self._cheapest, entry)
        while len(self._waiting) > self._kept_waiting:
            # What was replaced is still in the heap.
            self._waiting.pop(heapq.heappop(self._cheapest).txid, None)
        return transaction

    def due(self, now: datetime) -> bool:
        """Whether the next block is to be mined by now."""
        return now >= self.next_block_at

    def mine(self, at: datetime) -> Block:
        """Mine a block of the highest fee rates that fit; unknown fees come last. Sets the time of the next one."""
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
            self._mined[entry.txid] = entry.body
        self._cheapest = list(self._waiting.values())
        heapq.heapify(self._cheapest)
        self._keep(block)
        self._height += 1
        self.next_block_at = self._after(at)
        return block

    def on_day(self, milliseconds: int) -> list[BlockSummary]:
        """The blocks of the UTC day that holds this moment (milliseconds since 1970), the newest first.

        Raises OverflowError or ValueError for a moment that no calendar holds.
        """
        moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
        first = int(moment.replace(hour=0, minute=0, second=0, microsecond=0).timestamp())
        last = first + int(_DAY.total_seconds())
        return [s for s in reversed(self._summaries) if first <= s.time < last]

    def block(self, block_hash: str) -> Block | None:
        """The block of this hash, while its body is kept."""
        return self._blocks.get(block_hash)

    def transaction(self, txid: str) -> bytes | None:
        """The JSON object `x` of a transaction that waits or is in a kept block."""
        waiting = self._waiting.get(txid)
        return self._mined.get(txid) if waiting is None else waiting.body

    def _keep(self, block: Block) -> None:
        self._blocks[block.hash] = block
        self._summaries.append(block.summary())
        if len(self._blocks) > self._kept_blocks:
            _, oldest = self._blocks.popitem(last=False)
            for txid in oldest.txids:
                del self._mined[txid]

    def _after(self, at: datetime) -> datetime:
        return at + timedelta(seconds=float(self._generator.exponential(self._mean_seconds)))

    def _hash(self, height: int) -> str:
        digest = sha256(f"{self._identity}/{height}".encode()).hexdigest()
        return "0" * _LEADING_ZEROS + digest[_LEADING_ZEROS:]


def _miners_keep_the_first(txid: str) -> bool:
    """In one of four, by the digits of the replacement, so that the intervals of blocks stay as they are."""
    return int(txid[-2:], 16) < 64


def read_transaction(message: bytes, at: datetime) -> Transaction | None:
    """The transaction of a `utx` message, None if it is anything else or malformed."""
    try:
        decoded = decode(message)
        return from_wire(decoded.x, at) if isinstance(decoded, UnconfirmedTransaction) else None
    except MalformedMessageError:
        return None
