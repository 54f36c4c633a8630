"""Bitcoin Core: a node of one's own, by its ZMQ notifications and its RPC.

`rawtx` alone cannot tell the mempool from a block: a transaction counts as seen once `sequence` says that it was added.
No notification has fees or spent coins. They are asked of the node for all transactions that wait, never one by one:
coins of unconfirmed parents are known from the transactions just heard, confirmed ones come from the set of unspent
outputs, with their heights, and what is left from the parents themselves.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import msgspec

from txwatch.clock import Clock
from txwatch.sources.bitcoin_rpc import BitcoinRpc, chunks
from txwatch.sources.bitcoin_zmq import TOPICS, Hole, Notice, Subscription
from txwatch.sources.source import (
    BlockFound,
    BlockRemoved,
    Health,
    Ignored,
    Known,
    Malformed,
    Missed,
    Removed,
    Resynced,
    Seen,
    Source,
    SourceAwayError,
    Told,
)
from txwatch.wire.addresses import MAIN, NETWORKS
from txwatch.wire.messages import SAT_PER_BTC, MalformedMessageError, WireBlock
from txwatch.wire.raw import Coin, RawTransaction, decode_raw, from_raw
from txwatch.wire.transaction import UNCONFIRMED, Transaction

NAME = "bitcoin-core"
SILENCE_SECONDS = 30.0
"""Seconds of silence after which the node is asked whether it has news that did not come."""
RECENT = 20_000
"""Transactions of the mempool whose coins are remembered; those of others are asked for."""
WAITING = 20_000
"""Transactions that wait to be added to the mempool; a block brings some thousands that never are."""
CHUNK = 1_000
"""Transactions that are told at once in a resync."""
BLOCKS_BACK = 288
"""Blocks that a resync looks back for those found meanwhile: two days; recovery follows the chain further."""
_SLACK = timedelta(seconds=1)  # the node's times are whole seconds
T = TypeVar("T")
Outpoint = tuple[str, int]


class _Script(msgspec.Struct):
    hex: str


class _TxOut(msgspec.Struct):
    bestblock: str
    confirmations: int
    value: float
    scriptPubKey: _Script  # noqa: N815 - the node's name
    coinbase: bool = False


class _Header(msgspec.Struct):
    hash: str
    height: int
    time: int
    nTx: int  # noqa: N815 - the node's name
    previousblockhash: str | None = None


class _Entry(msgspec.Struct):
    time: int


class _Snapshot(msgspec.Struct):
    txids: list[str]
    mempool_sequence: int


class _Spending(msgspec.Struct):
    spendingtxid: str | None = None


class _BlockTxids(msgspec.Struct):
    tx: list[str]


class BitcoinCore(Source):
    """A node by its RPC and the address of its ZMQ notifications."""

    resyncs = True

    def __init__(
        self, name: str, clock: Clock, rpc: BitcoinRpc, zmq_url: str, *, silence_seconds: float = SILENCE_SECONDS
    ) -> None:
        super().__init__(name, clock)
        self._rpc = rpc
        self._zmq_url = zmq_url
        self._silence_seconds = silence_seconds
        self._subscription: Subscription | None = None
        self._network = MAIN
        self._heights: dict[str, int] = {}
        self._waiting: dict[str, RawTransaction] = {}
        self._recent: dict[str, RawTransaction] = {}
        self._mempool_sequence: int | None = None

    async def open(self) -> None:
        await asyncio.to_thread(self._look)
        self._subscription = await Subscription.open(self._zmq_url, self.heard_until)
        self._mempool_sequence = None

    def _look(self) -> None:
        """Find out which network it is on, and whether it notifies of what is needed. Raises SourceAwayError."""
        chain = self._rpc.call(dict[str, Any], "getblockchaininfo")
        self._network = NETWORKS.get(str(chain.get("chain")), MAIN)
        notified = self._rpc.call(list[dict[str, Any]], "getzmqnotifications")
        for topic in TOPICS:
            if not any(one.get("type") == f"pub{topic.decode()}" for one in notified):
                raise SourceAwayError(
                    f"the node does not notify: add zmqpub{topic.decode()}={self._zmq_url} to its conf"
                )

    async def close(self) -> None:
        if self._subscription is not None:
            self._subscription.close()
            self._subscription = None
        self._waiting.clear()
        self._rpc.close()

    async def events(self) -> AsyncGenerator[Told | Missed]:
        if self._subscription is None:
            raise SourceAwayError("not connected")
        while True:
            if await self._subscription.wait(self._silence_seconds):
                now = self.clock()
                for event in await asyncio.to_thread(self._told, self._subscription.read(now)):
                    yield event
                self.heard_until = now
            elif await asyncio.to_thread(self._has_more):
                yield Missed(self.heard_until, f"silent for {self._silence_seconds:.0f} s, though its mempool changed")

    def _has_more(self) -> bool:
        """Whether the mempool has changed since the last notification of it."""
        newest = self._snapshot().mempool_sequence
        before, self._mempool_sequence = self._mempool_sequence, newest
        return before is not None and newest != before

    def _snapshot(self) -> _Snapshot:
        return self._rpc.call(_Snapshot, "getrawmempool", False, True)

    def _told(self, notices: Sequence[Notice | Hole]) -> list[Told | Missed]:
        """What these notifications say, in their order."""
        told: list[Told | Missed | tuple[str, datetime]] = []
        removed: dict[str, datetime] = {}
        for notice in notices:
            if isinstance(notice, Hole):
                told.append(Missed(notice.since, notice.cause))
            elif notice.topic == b"rawtx":
                self._keep(notice.body, told)
            else:
                told.append(self._change(notice.body, removed))
        added = [one for one in told if isinstance(one, tuple)]
        transactions = self._transactions(added)
        replaced_by = self._replacements(removed)
        result: list[Told | Missed] = []
        for one in told:
            if isinstance(one, tuple):
                seen = transactions.get(one[0])
                if seen is not None:  # None: it left the mempool again before it could be asked for
                    result.append(seen)
            elif isinstance(one, Removed):
                result.append(Removed(one.txid, one.at, replaced_by.get(one.txid)))
            else:
                result.append(one)
        for txid in removed:
            self._recent.pop(txid, None)
        return result

    def _keep(self, body: bytes, told: list[Any]) -> None:
        """Keep a transaction until it is known whether it was added to the mempool."""
        try:
            transaction = decode_raw(body)
        except MalformedMessageError as error:
            told.append(Malformed(self.clock(), str(error), body))
            return
        if len(self._waiting) >= WAITING:
            self._waiting.pop(next(iter(self._waiting)))
        self._waiting[transaction.txid] = transaction

    def _change(self, body: bytes, removed: dict[str, datetime]) -> Any:
        """What one message of `sequence` says: a hash in display order, and what became of it."""
        name, label = body[:32].hex(), body[32:33]
        if label in {b"A", b"R"}:
            self._mempool_sequence = int.from_bytes(body[33:41], "little") + 1
        if label == b"A":
            return name, self.clock()
        if label == b"R":
            removed[name] = self.clock()
            return Removed(name, removed[name])
        if label == b"C":
            return self._connected(name)
        if label == b"D":
            return BlockRemoved(name)
        return Ignored(len(body))

    def _connected(self, block_hash: str) -> BlockFound:
        header = self._rpc.call(_Header, "getblockheader", block_hash)
        self._heights[block_hash] = header.height
        for txid in self._rpc.call(_BlockTxids, "getblock", block_hash, 1).tx:
            self._recent.pop(txid, None)
            self._waiting.pop(txid, None)
        return BlockFound(_announced(header))

    def _transactions(self, added: Sequence[tuple[str, datetime]]) -> dict[str, Seen | Malformed]:
        """The added transactions with the coins that they spend, by txid."""
        raw = {txid: self._waiting.pop(txid) for txid, _ in added if txid in self._waiting}
        missing = [txid for txid, _ in added if txid not in raw]
        raw |= self._fetch(missing)
        return self._resolved({txid: (raw[txid], at) for txid, at in added if txid in raw})

    def _fetch(self, txids: Iterable[str]) -> dict[str, RawTransaction]:
        """Those of these transactions that are in the mempool, or that the node has by an index."""
        wanted = list(dict.fromkeys(txids))
        found = self._rpc.batch(str, "getrawtransaction", [[txid] for txid in wanted]) if wanted else []
        return {txid: decode_raw(bytes.fromhex(body)) for txid, body in zip(wanted, found, strict=True) if body}

    def _resolved(self, raw: dict[str, tuple[RawTransaction, datetime]]) -> dict[str, Seen | Malformed]:
        for txid, (transaction, _) in raw.items():
            self._remember(txid, transaction)
        coins, tip = self._coins([(spent.txid, spent.vout) for tx, _ in raw.values() for spent in tx.inputs])
        resolved: dict[str, Seen | Malformed] = {}
        for txid, (tx, at) in raw.items():
            spent = [coins.get((one.txid, one.vout)) for one in tx.inputs]
            try:
                seen: Transaction = from_raw(tx, spent, at, tip, self._network)
                resolved[txid] = Seen(seen, tx.size)
            except MalformedMessageError as error:
                resolved[txid] = Malformed(at, f"{txid}: {error}", b"")
        return resolved

    def _remember(self, txid: str, transaction: RawTransaction) -> None:
        if len(self._recent) >= RECENT:
            self._recent.pop(next(iter(self._recent)))
        self._recent[txid] = transaction

    def _coins(self, outpoints: Iterable[Outpoint]) -> tuple[dict[Outpoint, Coin], int | None]:
        """The coins at these outpoints, as far as they can be known, and the height of the chain then."""
        wanted = list(dict.fromkeys(outpoints))
        coins = _outputs(self._recent, wanted)
        confirmed = [one for one in wanted if one not in coins]
        answers = self._rpc.batch(_TxOut, "gettxout", [[txid, vout, False] for txid, vout in confirmed])
        tip: int | None = None
        for outpoint, answer in zip(confirmed, answers, strict=True):
            if answer is not None:
                tip = self._height(answer.bestblock)
                script = bytes.fromhex(answer.scriptPubKey.hex)
                height = tip - answer.confirmations + 1
                coins[outpoint] = Coin(round(answer.value * SAT_PER_BTC), script, height, answer.coinbase)
        left = [one for one in confirmed if one not in coins]
        if left:
            # Unconfirmed parents that were never heard, or are confirmed just now and spent with it.
            parents = self._fetch(txid for txid, _ in left)
            for txid, parent in parents.items():
                self._remember(txid, parent)
            coins |= _outputs(parents, left)
        return coins, self._height(self._rpc.call(str, "getbestblockhash")) if tip is None else tip

    def _height(self, block_hash: str) -> int:
        if block_hash not in self._heights:
            if len(self._heights) >= BLOCKS_BACK:
                self._heights.clear()
            self._heights[block_hash] = self._rpc.call(_Header, "getblockheader", block_hash).height
        return self._heights[block_hash]

    def _replacements(self, removed: Iterable[str]) -> dict[str, str]:
        """Which transactions spend the coins of removed ones now."""
        coins = {(one.txid, one.vout): txid for txid in removed for one in _inputs(self._recent.get(txid))}
        if not coins:
            return {}
        asked = [{"txid": txid, "vout": vout} for txid, vout in coins]
        answers = self._rpc.call(list[_Spending], "gettxspendingprevout", asked)
        found = zip(coins.values(), answers, strict=True)
        return {txid: one.spendingtxid for txid, one in found if one.spendingtxid not in (None, txid)}

    async def resync(self, since: datetime, known: Known) -> AsyncGenerator[Told | Resynced]:
        snapshot = await asyncio.to_thread(self._snapshot)
        stored = await known(snapshot.txids)
        missing = [txid for txid in snapshot.txids if txid not in stored]
        entered = await self._asked(self._entered, missing, since)
        for some in chunks(list(entered.items()), CHUNK):
            for seen in (await self._asked(self._missed, dict(some))).values():
                yield seen
        tip = await asyncio.to_thread(self._rpc.call, str, "getbestblockhash")
        for block in await self._asked(self._blocks_since, tip, since):
            yield block
        yield Resynced(self.clock(), tip)

    async def _asked(self, ask: Callable[..., T], *about: object) -> T:
        return await asyncio.to_thread(ask, *about)

    def _entered(self, txids: Sequence[str], since: datetime) -> dict[str, datetime]:
        """When those of these transactions entered the mempool that did so since a moment."""
        entries = self._rpc.batch(_Entry, "getmempoolentry", [[txid] for txid in txids]) if txids else []
        now = self.clock()
        moments = {
            txid: datetime.fromtimestamp(entry.time, UTC)
            for txid, entry in zip(txids, entries, strict=True)
            if entry is not None
        }
        return {txid: min(max(at, since), now) for txid, at in moments.items() if at >= since - _SLACK}

    def _missed(self, entered: dict[str, datetime]) -> dict[str, Seen | Malformed]:
        raw = self._fetch(entered)
        return self._resolved({txid: (tx, entered[txid]) for txid, tx in raw.items()})

    def _blocks_since(self, tip: str, since: datetime) -> list[BlockFound]:
        """The blocks from the tip down to the first one that was mined well before a moment, the lowest first."""
        found: list[BlockFound] = []
        place: str | None = tip
        while place is not None and len(found) < BLOCKS_BACK:
            header = self._rpc.call(_Header, "getblockheader", place)
            if found and datetime.fromtimestamp(header.time, UTC) < since - timedelta(hours=2):
                break
            found.append(BlockFound(_announced(header)))
            place = header.previousblockhash
        return found[::-1]

    async def health(self) -> Health:
        return await asyncio.to_thread(self._health)

    def _health(self) -> Health:
        self._look()
        network = self._rpc.call(dict[str, Any], "getnetworkinfo")
        chain = self._rpc.call(dict[str, Any], "getblockchaininfo")
        mempool = self._rpc.call(dict[str, Any], "getmempoolinfo")
        version = str(network.get("subversion", "")).strip("/")
        # The mempool's own least rate rises while it is full, and falls again: it is no policy.
        rate = round(float(network.get("relayfee", 0.00001)) * SAT_PER_BTC / 1_000, 3)
        carried = mempool.get("datacarriersize", mempool.get("maxdatacarriersize"))
        if carried is None:
            carried = 100_000 if int(network.get("version", 0)) >= 300_000 else 83
        text = f"{version} ({chain.get('chain')}), {chain.get('blocks'):,} blocks, {mempool.get('size'):,} unconfirmed"
        return Health(text, rate, int(carried))


def _announced(header: _Header) -> WireBlock:
    return WireBlock(header.hash, header.height, header.time, header.nTx)


def _inputs(transaction: RawTransaction | None) -> list[Any]:
    return [] if transaction is None else transaction.inputs


def _outputs(makers: dict[str, RawTransaction], outpoints: Iterable[Outpoint]) -> dict[Outpoint, Coin]:
    """The coins at those of these outpoints that one of the makers, which are unconfirmed, has made."""
    return {
        (txid, vout): Coin(maker.outputs[vout].value, maker.outputs[vout].script, UNCONFIRMED)
        for txid, vout in outpoints
        if (maker := makers.get(txid)) is not None and vout < len(maker.outputs)
    }
