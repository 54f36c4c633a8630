"""What a Bitcoin node is asked by RPC: its state, its mempool, its blocks, and the coins that transactions spend.

All of it is synchronous, and batched: no question is put once a coin.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, NamedTuple

import msgspec
import structlog
from msgspec import Meta

from txwatch.foreign import one_line
from txwatch.sources.bitcoin_rpc import BitcoinRpc, chunks
from txwatch.sources.source import Health, SourceAwayError
from txwatch.wire.addresses import MAIN, NETWORKS, Network
from txwatch.wire.blocks import MOST_OF_A_BLOCK
from txwatch.wire.messages import MAX_SUPPLY_SAT, SAT_PER_BTC, Count, Hash, MalformedMessageError, WireBlock
from txwatch.wire.raw import Coin, Outpoint, RawTransaction, decode_raw
from txwatch.wire.transaction import UNCONFIRMED

log = structlog.get_logger(__name__)

_MOST_TOGETHER = 20
"""Transactions that are asked for in one request: each can have a megabyte."""
_MINED_IN = 12
"""Blocks, the newest, in which a transaction is looked for whose coins are gone."""
_ENTRIES_AT_ONCE = 50_000
"""Transactions of a mempool that is read with all that is known of each: some 50 MB."""
_DATA_OF_ANY_SIZE = 300_000
"""The first version that relays OP_RETURN scripts of 100 kB."""
_HEIGHTS_KEPT = 4_096

Height = Annotated[int, Meta(ge=0, lt=2**31)]
"""A number as a column of the database takes it."""
Btc = Annotated[float, Meta(ge=0, le=MAX_SUPPLY_SAT / SAT_PER_BTC)]


class Notification(msgspec.Struct):
    """What the node publishes by ZMQ: a `type` such as pubrawtx, and at which address."""

    type: str
    address: str


class Header(msgspec.Struct):
    """A block's header. `confirmations` is -1 for a block that left the chain; `time` is in Unix seconds."""

    hash: Hash
    confirmations: int
    height: Height
    time: Count
    tx_count: Height = msgspec.field(name="nTx")
    previous: Hash | None = msgspec.field(name="previousblockhash", default=None)

    @property
    def announcement(self) -> WireBlock:
        """The same in the form of an announcement."""
        return WireBlock(self.hash, self.height, self.time, self.tx_count)


class BlockTxids(Header):
    """A block with the txids that it holds."""

    tx: Annotated[list[Hash], MOST_OF_A_BLOCK] = msgspec.field(default_factory=list)


class Mempool(msgspec.Struct):
    """The txids that the mempool holds. `sequence` is the number of the next change that the node will tell."""

    txids: list[Hash]
    sequence: Annotated[int, Meta(ge=0, lt=2**53)] = msgspec.field(name="mempool_sequence")


class Description(NamedTuple):
    """What the node says of itself."""

    health: Health
    network: Network
    notifications: list[Notification]


class Found(NamedTuple):
    """Coins by outpoint, as far as they are known, and the height of the chain then. `parents` are unconfirmed."""

    coins: dict[Outpoint, Coin]
    tip_height: int
    parents: dict[str, "Raw"]


class Raw(NamedTuple):
    """A transaction, and its serialization."""

    tx: RawTransaction
    body: bytes


class Script(msgspec.Struct):
    """A locking script, in hex."""

    hex: str


class UnspentOutput(msgspec.Struct):
    """A coin of the chain, and the block that is its tip. `value` is in BTC."""

    bestblock: Hash
    confirmations: int
    value: Btc
    script: Script = msgspec.field(name="scriptPubKey")
    coinbase: bool


class Prevout(msgspec.Struct):
    """A coin that a mined transaction has spent. `value` is in BTC."""

    value: Btc
    script: Script = msgspec.field(name="scriptPubKey")
    height: Height
    generated: bool


class MinedInput(msgspec.Struct):
    """An input of a mined transaction; a coinbase spends nothing."""

    txid: str = ""
    vout: int = 0
    prevout: Prevout | None = None


class _Mined(msgspec.Struct):
    vin: list[MinedInput]


class _Network(msgspec.Struct):
    subversion: str
    relayfee: float
    version: int


class _Chain(msgspec.Struct):
    chain: str


class _MempoolInfo(msgspec.Struct):
    maxdatacarriersize: Height | None = None
    datacarriersize: Height | None = None


class _Entry(msgspec.Struct):
    time: Count


class _Spender(msgspec.Struct):
    txid: str
    vout: int
    spendingtxid: Hash | None = None


class BitcoinNode:
    """The node behind `rpc`. Whatever it is asked raises NodeAwayError or RpcError."""

    def __init__(self, rpc: BitcoinRpc) -> None:
        self.rpc = rpc
        self._heights: dict[str, int] = {}

    def describe(self) -> Description:
        """What the node says of itself, and publishes."""
        network = self.rpc.call(_Network, "getnetworkinfo")
        chain = self.rpc.call(_Chain, "getblockchaininfo")
        mempool = self.rpc.call(_MempoolInfo, "getmempoolinfo")
        notifications = self.rpc.call(list[Notification], "getzmqnotifications")
        text = one_line(f"{program(network.subversion)} ({chain.chain})")
        # BTC for 1,000 vB. The mempool's own least rate rises while it is full, and falls again: it is no policy.
        least = network.relayfee * SAT_PER_BTC / 1_000
        carried = mempool.maxdatacarriersize or mempool.datacarriersize
        carried = carried or (100_000 if network.version >= _DATA_OF_ANY_SIZE else 83)
        health = Health(text, round(least, 3), carried, chain.chain)
        return Description(health, NETWORKS.get(chain.chain, MAIN), notifications)

    def tip(self) -> Header:
        """The header of the highest block of the chain."""
        return self.header(self.rpc.call(str, "getbestblockhash"))

    def header(self, block_hash: str) -> Header:
        """A block's header."""
        header = self.rpc.call(Header, "getblockheader", block_hash)
        self._note(header)
        return header

    def headers(self, heights: Sequence[int]) -> list[Header]:
        """The headers of the chain's blocks of these heights, in their order."""
        hashes = self.rpc.batch(str, "getblockhash", [(height,) for height in heights])
        calls = [(block_hash,) for block_hash in hashes if block_hash is not None]
        return [header for header in self.rpc.batch(Header, "getblockheader", calls) if header is not None]

    def _note(self, header: Header) -> None:
        if len(self._heights) >= _HEIGHTS_KEPT:
            self._heights.clear()
        self._heights[header.hash] = header.height

    def height(self, block_hash: str) -> int:
        """The height of a block, asked once."""
        known = self._heights.get(block_hash)
        return self.header(block_hash).height if known is None else known

    def block_txids(self, block_hash: str) -> BlockTxids:
        """A block's header, and the txids in it."""
        block = self.rpc.call(BlockTxids, "getblock", block_hash, 1)
        self._note(block)
        return block

    def left_chain(self, hashes: Sequence[str]) -> list[str]:
        """Those of these blocks that are no longer in the chain."""
        headers = self.rpc.batch(Header, "getblockheader", [(block_hash,) for block_hash in hashes])
        return [h for h, header in zip(hashes, headers, strict=True) if header is None or header.confirmations < 0]

    def mempool(self) -> Mempool:
        """All txids of the mempool."""
        return self.rpc.call(Mempool, "getrawmempool", False, True)

    def entered(self, txids: Sequence[str], held: int) -> dict[str, int]:
        """When these transactions, of a mempool that holds so many, entered it, in Unix seconds. It may know fewer."""
        # One answer with all of the mempool takes a third of the time that the node needs for each one alone.
        if len(txids) > held // 3 and held <= _ENTRIES_AT_ONCE:
            entries = self.rpc.call(dict[str, _Entry], "getrawmempool", True)
            return {txid: entries[txid].time for txid in txids if txid in entries}
        answers = self.rpc.batch(_Entry, "getmempoolentry", [(txid,) for txid in txids])
        return {txid: entry.time for txid, entry in zip(txids, answers, strict=True) if entry is not None}

    def raw(self, txids: Sequence[str], together: int = _MOST_TOGETHER) -> dict[str, Raw]:
        """Those of these transactions that the mempool, or the node's index, holds, by txid.

        One that cannot be read, or is another one, is left out: it holds up no other.
        """
        answers = self.rpc.batch(str, "getrawtransaction", [(txid,) for txid in txids], together)
        found = {}
        for txid, answer in zip(txids, answers, strict=True):
            if answer is None:
                continue
            try:
                body = bytes.fromhex(answer)
                tx = decode_raw(body)
                if tx.txid != txid:
                    raise MalformedMessageError(f"it is {tx.txid}")
            except ValueError as error:
                log.warning("transaction_unreadable", txid=txid, cause=str(error))
            else:
                found[txid] = Raw(tx, body)
        return found

    def spenders(self, outpoints: Sequence[Outpoint]) -> dict[Outpoint, str]:
        """Which transactions of the mempool spend these outpoints, by outpoint."""
        found = {}
        for some in chunks(outpoints, 1_000):
            asked = [{"txid": txid, "vout": vout} for txid, vout in some]
            for spent in self.rpc.call(list[_Spender], "gettxspendingprevout", asked):
                if spent.spendingtxid is not None:
                    found[spent.txid, spent.vout] = spent.spendingtxid
        return found

    def coins(self, wanted: Mapping[Outpoint, str]) -> Found:
        """The coins at these outpoints, each with the txid that spends it.

        First as the chain holds them; then from unconfirmed parents; and where a block took the spender meanwhile, from
        that block. What is none of these stays unknown.
        """
        outpoints = list(wanted)
        calls = [(txid, vout, False) for txid, vout in outpoints]
        coins: dict[Outpoint, Coin] = {}
        best = ""
        for outpoint, told in zip(outpoints, self.rpc.batch(UnspentOutput, "gettxout", calls), strict=True):
            if told is not None:
                best = told.bestblock
                height = self.height(best) - told.confirmations + 1
                coins[outpoint] = Coin(_satoshi(told.value), bytes.fromhex(told.script.hex), height, told.coinbase)
        if len(coins) == len(outpoints):
            return Found(coins, self.height(best) if best else self.tip().height, {})
        parents = self._parents(dict.fromkeys(txid for txid, vout in outpoints if (txid, vout) not in coins))
        for txid, parent in parents.items():
            outputs = parent.tx.outputs
            for outpoint in outpoints:
                if outpoint[0] == txid and outpoint[1] < len(outputs):
                    coins[outpoint] = Coin(*outputs[outpoint[1]], UNCONFIRMED)
        tip = self.tip()
        self._add_mined(coins, wanted, tip)
        return Found(coins, tip.height, parents)

    def _parents(self, txids: Iterable[str]) -> dict[str, Raw]:
        """Those of these transactions that the mempool holds. An index also gives mined ones, whose height it hides."""
        bodies = self.raw(list(txids))
        return {txid: bodies[txid] for txid in self.entered(list(bodies), 1 << 60)}

    def _add_mined(self, coins: dict[Outpoint, Coin], wanted: Mapping[Outpoint, str], tip: Header) -> None:
        """Add what the spenders that were mined lately have spent: their coins are in no set any more."""
        block: Header | None = tip
        for _ in range(_MINED_IN):
            missing = list(dict.fromkeys(txid for outpoint, txid in wanted.items() if outpoint not in coins))
            if not missing or block is None:
                return
            calls = [(txid, 2, block.hash) for txid in missing]
            for mined in self.rpc.batch(_Mined, "getrawtransaction", calls, _MOST_TOGETHER):
                for spent in mined.vin if mined is not None else ():
                    if (coin := spent_coin(spent.prevout, block.height)) is not None:
                        coins.setdefault((spent.txid, spent.vout), coin)
            block = self.header(block.previous) if block.previous else None


def require_published(topic: str, url: str, notifications: Sequence[Notification]) -> None:
    """Raise SourceAwayError, with the line for bitcoin.conf, unless the node publishes a topic at this address."""
    line = f"zmqpub{topic}={url}"
    published = [one.address for one in notifications if one.type == f"pub{topic}"]
    if not published:
        raise SourceAwayError(f"the node does not publish {topic}: add {line} to its bitcoin.conf, and start it again")
    # By the port alone: a node that listens on all addresses has another host in it.
    if url.rpartition(":")[2] not in {address.rpartition(":")[2] for address in published}:
        raise SourceAwayError(
            f"the node publishes {topic} at {published[0]}: set BITCOIN_ZMQ_URL to it, or {line} in its bitcoin.conf"
        )


def spent_coin(prevout: Prevout | None, mined_at: int) -> Coin | None:
    """A coin that a transaction spent in a block of this height; unconfirmed until then if that block made it."""
    if prevout is None:
        return None
    height = UNCONFIRMED if prevout.height >= mined_at else prevout.height
    return Coin(_satoshi(prevout.value), bytes.fromhex(prevout.script.hex), height, prevout.generated)


def _satoshi(btc: float) -> int:
    # Exact: up to 21 million BTC the errors of reading and multiplying stay below half a satoshi together.
    return round(btc * SAT_PER_BTC)


def program(subversion: str) -> str:
    """The program and version that a node tells others: /Satoshi:29.0.0/ is Bitcoin Core 29.0."""
    version = re.match(r"/Satoshi:(\d+\.\d+)", subversion)
    other = re.search(r"/(Knots)\b", subversion)
    return f"Bitcoin {other[1] if other else 'Core'} {version[1]}" if version else subversion.strip("/")
