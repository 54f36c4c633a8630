"""A Bitcoin node of one's own: what enters and leaves its mempool and its chain by ZMQ, all else by RPC.

`rawtx` says neither whether a transaction is in the mempool or in a block, nor what it spends: the next message of
`sequence` says the first, and the node is asked for the second, for all transactions that wait together. Each topic's
messages are counted, so that a lost one is noticed; its mempool is read then, as after an outage.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, TypeVar

import structlog

from txwatch.clock import Clock
from txwatch.sources.bitcoin_node import BitcoinNode, Found, Header, require_published
from txwatch.sources.bitcoin_rpc import BitcoinRpc, chunks
from txwatch.sources.bitcoin_zmq import TOPICS, Hole, Notice, Subscription
from txwatch.sources.node_memory import NodeMemory
from txwatch.sources.source import (
    BlockFound,
    BlockRemoved,
    Health,
    Ignored,
    Known,
    Malformed,
    MempoolSource,
    Missed,
    Removed,
    Resynced,
    Seen,
    SourceAwayError,
    Told,
)
from txwatch.wire.addresses import MAIN
from txwatch.wire.messages import MalformedMessageError
from txwatch.wire.raw import Outpoint, RawTransaction, decode_raw, from_raw

log = structlog.get_logger(__name__)

NAME = "bitcoin-core"
SILENCE_SECONDS = 30.0
"""Seconds without a message after which the node is asked whether it has told everything."""
_EXPLAINED_WITHIN = timedelta(seconds=1)
"""Time in which the transaction or block that made another leave the mempool is told after it."""
_HOLD_SECONDS = 0.25
_RAW_BYTES = 32 << 20
"""Bytes of transactions that wait for the message that says where they are: those of a block are at most 4 MB."""
_RAW_MOST = 100_000
"""Transactions that wait so, however small they are; those of a block are some thousands."""
_RESYNC_CHUNK = 500
_REMEMBERED = 20_000
"""Transactions of a mempool that is read whole. Of a larger one only those are known that were told."""
_TOLD_WITHIN = 5
"""Seconds within which the node tells what has entered its mempool."""
_BLOCKS_TOLD = 144
_MOST_BLOCKS = 2_016
"""Blocks that a resync tells at most: of two weeks."""
_CLOCKS_DIFFER = timedelta(hours=2)
"""Time by which a block's may be ahead of the network's; it can be as far behind."""

T = TypeVar("T")


class _Entered(NamedTuple):
    """A transaction entered the mempool; its coins are not known yet."""

    tx: RawTransaction
    size: int


class _Untold(NamedTuple):
    """What was read at a moment, of what was sent after `since`, and the coins that are being looked for."""

    told: "list[Told | _Entered]"
    at: datetime
    since: datetime
    found: "asyncio.Task[Found]"


class BitcoinCore(MempoolSource):
    """The node behind `rpc`, which publishes at `zmq_url`."""

    def __init__(
        self, name: str, clock: Clock, rpc: BitcoinRpc, zmq_url: str, *, silence_seconds: float = SILENCE_SECONDS
    ) -> None:
        super().__init__(name, clock)
        self._rpc = rpc
        self._node = BitcoinNode(rpc)
        self._zmq_url = zmq_url
        self._silence_seconds = silence_seconds
        self._network = MAIN
        self._subscription: Subscription | None = None
        self._memory = NodeMemory()
        self._raw: deque[bytes] = deque()
        self._raw_bytes = 0
        self._blocks: deque[str] = deque(maxlen=_BLOCKS_TOLD)
        self._tip: Header | None = None
        self._opened_at: datetime | None = None
        self._first_tip = ""
        self._next: int | None = None
        self._missed: Missed | None = None
        self._resyncing = False

    async def _ask(self, question: Callable[..., T], *given: object) -> T:
        try:
            return await asyncio.to_thread(question, *given)
        except (ValueError, ArithmeticError) as error:
            raise SourceAwayError(f"the node's answer cannot be read: {error}") from error

    async def open(self) -> None:
        described = await self._ask(self._node.describe)
        self._network = described.network
        for topic in TOPICS:
            require_published(topic.decode(), self._zmq_url, described.notifications)
        self._raw.clear()
        self._raw_bytes, self._missed = 0, None
        self._subscription = await Subscription.open(self._zmq_url, self.clock)
        tip = await self._ask(self._node.tip)
        self._next = (await self._ask(self._node.mempool)).sequence
        if self._opened_at is None:
            self._opened_at, self._first_tip, self._tip = self.clock(), tip.hash, tip
        else:
            self._memory.is_sound = False

    async def close(self) -> None:
        if self._subscription is not None:
            self._subscription.close()
            self._subscription = None
        self._rpc.close()

    async def health(self) -> Health:
        return (await self._ask(self._node.describe)).health

    async def events(self) -> AsyncGenerator[Told | Missed]:
        if (subscription := self._subscription) is None:
            raise SourceAwayError("not connected")
        untold: _Untold | None = None
        try:
            while True:
                # While the node looks for the coins of what was read, what has come meanwhile is read.
                waits = untold is not None or self._missed is not None or self._memory.has_unexplained
                newer = None
                if await subscription.wait(0 if untold else _HOLD_SECONDS if waits else self._silence_seconds):
                    newer = await self._untold(subscription)
                elif not waits:
                    await self._check(subscription)
                if untold is not None:
                    for event in self._resolved(untold.told, await untold.found, untold.at):
                        yield event
                # What is lost from now on was sent after this moment.
                self.heard_until = subscription.empty_at if newer is None else newer.since
                untold = newer
                if self._missed is not None and not self._resyncing:
                    missed, self._missed = self._missed, None
                    yield missed
                for removed in await self._explained(self.clock() - _EXPLAINED_WITHIN):
                    yield removed
        finally:
            if untold is not None:
                untold.found.cancel()
                await asyncio.gather(untold.found, return_exceptions=True)

    async def _untold(self, subscription: Subscription) -> "_Untold":
        since, at = subscription.empty_at, self.clock()
        told = await self._read(subscription.read(), at)
        entered = [one.tx for one in told if isinstance(one, _Entered)]
        return _Untold(told, at, since, asyncio.create_task(self._coins(entered)))

    async def _read(self, notices: Sequence[Notice | Hole], at: datetime) -> list[Told | _Entered]:
        """What these messages tell, in their order."""
        told: list[Told | _Entered] = []
        for notice in notices:
            if isinstance(notice, Hole):
                self._miss(notice.since, notice.cause)
            elif notice.topic == b"rawtx":
                self._raw.append(notice.body)
                self._raw_bytes += len(notice.body)
                while self._raw_bytes > _RAW_BYTES or len(self._raw) > _RAW_MOST:
                    self._raw_bytes -= len(self._raw.popleft())
            elif len(notice.body) < 33:
                told.append(Malformed(at, "sequence without a hash and a kind", notice.body))
            else:
                named, kind = notice.body[:32].hex(), notice.body[32:33]
                if len(notice.body) == 41:
                    self._next = int.from_bytes(notice.body[33:], "little") + 1
                if kind == b"A":
                    told += self._entered(named, at)
                elif kind == b"R":
                    self._memory.leave(named, at)
                elif kind == b"C":
                    told += await self._connected(named)
                elif kind == b"D":
                    told += await self._disconnected(named)
                else:
                    told.append(Ignored(len(notice.body)))
        return told

    def _miss(self, since: datetime, cause: str) -> None:
        if self._missed is None:
            self._missed = Missed(since, cause)
        self._memory.is_sound = False

    def _entered(self, txid: str, at: datetime) -> list[Told | _Entered]:
        """A transaction entered the mempool: the one that was sent last."""
        body = self._raw.pop() if self._raw else b""
        self._raw_bytes -= len(body)
        try:
            tx = decode_raw(body) if body else None
        except MalformedMessageError as error:
            return [Malformed(at, f"{txid}: {error}", body)]
        if tx is None or tx.txid != txid:
            self._miss(self.heard_until, "a transaction entered the mempool that was not sent")
            return []
        return self._enter(tx, body)

    def _enter(self, tx: RawTransaction, body: bytes) -> list[Told | _Entered]:
        replaced = self._memory.enter(tx, body)
        return [_Entered(tx, len(body)), *(Removed(*one) for one in replaced)]

    async def _connected(self, block_hash: str) -> list[Told | _Entered]:
        """A block is the chain's tip. Its transactions were sent just before."""
        block = await self._ask(self._node.block_txids, block_hash)
        told: list[Told | _Entered] = [BlockFound(block.announcement)]
        if self._memory.has_unexplained:
            for body in self._raw:
                # What cannot be read is told where it enters the mempool. In a block it explains nothing.
                with suppress(MalformedMessageError):
                    told += [Removed(*one) for one in self._memory.replaced_by(decode_raw(body))]
        # Each transaction that a block takes from the mempool counts as a change of it, which is not told.
        taken = self._memory.mine(block.tx, block.height)
        self._next = None if self._next is None or taken is None else self._next + taken
        self._blocks.append(block_hash)
        self._moved(block)
        return told

    async def _disconnected(self, block_hash: str) -> list[Told | _Entered]:
        """A block left the chain. Of its transactions those that come back are told as such."""
        header = await self._ask(self._node.header, block_hash)
        self._memory.unmine(header.height)
        if block_hash in self._blocks:
            self._blocks.remove(block_hash)
        self._moved(await self._ask(self._node.header, header.previous) if header.previous else None)
        return [BlockRemoved(block_hash)]

    def _moved(self, tip: Header | None) -> None:
        """Another block is the tip. What was sent before is in a block."""
        self._tip = tip
        self._raw.clear()
        self._raw_bytes = 0

    def _resolved(
        self, told: Sequence[Told | _Entered], found: Found, at: datetime | dict[str, datetime]
    ) -> Iterator[Told]:
        """The same with the coins of transactions; `at` is when they were seen, of all or by txid."""
        for one in told:
            if not isinstance(one, _Entered):
                yield one
                continue
            tx = one.tx
            seen_at = at[tx.txid] if isinstance(at, dict) else at
            coins = [found.coins.get((spent.txid, spent.vout)) for spent in tx.inputs]
            try:
                yield Seen(from_raw(tx, coins, seen_at, found.tip_height, self._network), one.size)
            except MalformedMessageError as error:
                yield Malformed(seen_at, f"{tx.txid}: {error}", b"")

    async def _coins(self, entered: Sequence[RawTransaction]) -> Found:
        """The coins that these transactions spend, as far as they are known."""
        coins = self._memory.coins(entered)
        wanted: dict[Outpoint, str] = {
            (spent.txid, spent.vout): tx.txid
            for tx in entered
            for spent in tx.inputs
            if (spent.txid, spent.vout) not in coins
        }
        height = self._tip.height if self._tip is not None else 0
        if not wanted:
            return Found(coins, height, {})
        found = await self._ask(self._node.coins, wanted)
        for txid, parent in found.parents.items():
            log.debug("parent_not_heard_of", source=self.name, txid=txid, bytes=len(parent.body))
        return Found(coins | found.coins, max(height, found.tip_height), {})

    async def _explained(self, until: datetime) -> list[Removed]:
        """What left the mempool until a moment, and what the node says spends its coins now."""
        left = self._memory.take_unexplained(until) if self._memory.has_unexplained else []
        outpoints = [outpoint for one in left for outpoint in one.outpoints]
        by = await self._ask(self._node.spenders, outpoints) if outpoints else {}
        return [
            Removed(one.txid, one.at, next((by[outpoint] for outpoint in one.outpoints if outpoint in by), None))
            for one in left
        ]

    async def _check(self, subscription: Subscription) -> None:
        """Ask a silent node whether it has told everything. Raises SourceAwayError if it does not answer."""
        mempool = await self._ask(self._node.mempool)
        tip = await self._ask(self._node.tip)
        # It may be about to tell what it answered with.
        if await subscription.wait(2 * _HOLD_SECONDS):
            return
        if self._tip is not None and tip.hash != self._tip.hash:
            self._miss(self.heard_until, f"block {tip.hash} was not told")
        elif self._next is not None and mempool.sequence != self._next:
            self._miss(self.heard_until, f"{mempool.sequence - self._next:,} changes of its mempool were not told")
        else:
            self._next = mempool.sequence
        self._tip = tip

    async def resync(self, since: datetime, known: Known) -> AsyncGenerator[Told | Resynced]:
        self._resyncing = True
        try:
            before = self._memory.in_mempool()
            at = self.clock()
            # In this order: what a block takes between the two answers is in a block up to that tip.
            mempool = await self._ask(self._node.mempool)
            tip = await self._ask(self._node.tip)
            missing: list[str] = []
            for txids in chunks(mempool.txids, 10_000):
                stored = await known(txids)
                missing += [txid for txid in txids if txid not in stored]
            log.info("source_resyncing", source=self.name, mempool=len(mempool.txids), not_stored=len(missing))
            entered = await self._ask(self._node.entered, missing, len(mempool.txids))
            # In whole seconds. The oldest first: parents before children.
            least = int(since.timestamp()) - _TOLD_WITHIN
            asked = sorted((txid for txid in missing if entered.get(txid, 0) >= least), key=entered.__getitem__)
            left = sum(txid not in entered for txid in missing)
            for txids in chunks(asked, _RESYNC_CHUNK):
                raw = await self._ask(self._node.raw, txids)
                left += len(txids) - len(raw)
                seen_at = {txid: min(max(datetime.fromtimestamp(entered[txid], UTC), since), at) for txid in raw}
                found: list[Told | _Entered] = []
                for tx, body in raw.values():
                    found += self._enter(tx, body)
                coins = await self._coins([one.tx for one in found if isinstance(one, _Entered)])
                for event in self._resolved(found, coins, seen_at):
                    yield event
            for event in await self._blocks_missed(tip, since):
                yield event
            for removed in await self._remember(mempool.txids):
                yield removed
            # What was thought to be in the mempool, and is neither there nor in a block.
            gone = before & self._memory.in_mempool() - set(mempool.txids)
            for txid in gone:
                self._memory.leave(txid, at)
            for removed in await self._explained(at):
                yield removed
            self._memory.is_sound = self._missed is None
            self._next = max(self._next or 0, mempool.sequence)
            yield Resynced(at, tip.hash, left)
        finally:
            self._resyncing = False

    async def _remember(self, txids: Sequence[str]) -> list[Removed]:
        """Ask for what the mempool of a small node holds, so that it is known what a later replacement replaces."""
        removed: list[Removed] = []
        unknown = [txid for txid in txids if not self._memory.holds(txid)] if len(txids) <= _REMEMBERED else []
        for some in chunks(unknown, _RESYNC_CHUNK):
            for tx, body in (await self._ask(self._node.raw, some)).values():
                removed += [Removed(*one) for one in self._memory.enter(tx, body)]
        return removed

    async def _blocks_missed(self, tip: Header, since: datetime) -> list[Told]:
        """The blocks up to a tip that were not told, and those told that are no longer in the chain."""
        told: list[Told] = []
        for block_hash in await self._ask(self._node.left_chain, list(self._blocks)):
            self._blocks.remove(block_hash)
            told.append(BlockRemoved(block_hash))
        # Of what was there when this node was first followed nothing is told, unless it was followed before that.
        first = self._first_tip if self._opened_at is not None and since >= self._opened_at else None
        found: list[Header] = []
        header: Header | None = tip
        while (
            header is not None
            and header.hash not in self._blocks
            and header.hash != first
            and len(found) < _MOST_BLOCKS
            and (not found or datetime.fromtimestamp(header.time, UTC) > since - _CLOCKS_DIFFER)
        ):
            found.append(header)
            header = await self._ask(self._node.header, header.previous) if header.previous else None
        for header in reversed(found[:_BLOCKS_TOLD]):
            block = await self._ask(self._node.block_txids, header.hash)
            self._memory.mine(block.tx, block.height)
            self._blocks.append(header.hash)
        self._tip = tip
        return told + [BlockFound(header.announcement) for header in reversed(found)]
