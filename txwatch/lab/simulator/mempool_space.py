"""The local feed as mempool.space: its transactions, the polls that tell what changed, and the answers of its REST API.

All is of the same traffic and chain as the feed of blockchain.info. What the simulator does not know, such as
witnesses, is left out.
"""

from datetime import datetime, timedelta
from random import Random

import msgspec
from msgspec import UNSET, Struct, UnsetType

from txwatch.lab.simulator.chain import Block, Chain, Changes, Served
from txwatch.lab.simulator.prices import prices_answer
from txwatch.lab.simulator.spending import older_txid
from txwatch.wire.messages import WireTransaction
from txwatch.wire.transaction import from_wire, script_type

POLL_SECONDS = 2.0
_TYPES = {
    "p2wpkh": "v0_p2wpkh",
    "p2wsh": "v0_p2wsh",
    "p2tr": "v1_p2tr",
    "p2a": "anchor",
    "witness_unknown": "unknown",
    "other": "unknown",
}
"""The names that differ from ours."""


class _Output(Struct, gc=False):
    scriptpubkey: str
    scriptpubkey_type: str
    scriptpubkey_address: str | UnsetType
    value: int


class _Input(Struct, gc=False):
    txid: str
    vout: int
    prevout: _Output | None
    scriptsig: str
    is_coinbase: bool
    sequence: int


class _Status(Struct, gc=False):
    confirmed: bool


class _Transaction(Struct, gc=False, rename={"first_seen": "firstSeen", "fee_rate": "effectiveFeePerVsize"}):
    txid: str
    version: int
    locktime: int
    vin: list[_Input]
    vout: list[_Output]
    size: int
    weight: int
    fee: int
    status: _Status
    vsize: int
    fee_rate: float
    first_seen: int


_wire = msgspec.json.Decoder(WireTransaction)
_encode = msgspec.json.Encoder().encode


def transaction_answer(served: Served, *, confirmed: bool = False) -> bytes:
    """A transaction as mempool.space tells it. `fee` is 0 if a coin was not resolved, as there."""
    wire = _wire.decode(served.body)
    read = from_wire(wire, served.at)
    makers = served.makers or [older_txid(served.txid, place) for place in range(len(wire.inputs))]
    inputs = [
        _Input(
            maker,
            spent.prev_out.n if spent.prev_out else 0,
            _output(spent.prev_out.script, spent.prev_out.addr, spent.prev_out.value) if spent.prev_out else None,
            spent.script,
            False,
            spent.sequence,
        )
        for maker, spent in zip(makers, wire.inputs, strict=True)
    ]
    outputs = [_output(output.script, output.addr, output.value) for output in wire.out]
    fee = read.fee_sat or 0
    return _encode(
        _Transaction(
            wire.hash,
            wire.ver,
            wire.lock_time,
            inputs,
            outputs,
            wire.size,
            read.weight,
            fee,
            _Status(confirmed),
            read.vsize,
            fee / read.vsize,
            int(served.at.timestamp()),
        )
    )


def _output(script: str, address: str | None, value: int) -> _Output:
    kind = script_type(script)
    return _Output(script, _TYPES.get(kind, kind), address or UNSET, value)


def block_answer(block: Block) -> bytes:
    """A block as mempool.space announces it, and answers when it is asked for."""
    answer = {
        "id": block.hash,
        "height": block.height,
        "timestamp": block.time,
        "tx_count": block.n_tx,
        "weight": block.weight,
        "previousblockhash": block.prev_block,
    }
    return msgspec.json.encode(answer)


class Polls:
    """Asks a chain from a moment on every `seconds` what changed in its mempool, and numbers each change."""

    def __init__(self, chain: Chain, start: datetime, seconds: float = POLL_SECONDS) -> None:
        self._chain = chain
        self._interval = timedelta(seconds=seconds)
        self._sequence = 0
        self.next_at = start + self._interval
        chain.changes = Changes()

    def poll(self) -> "Change":
        """What changed since the last poll."""
        self.next_at += self._interval
        changes, self._chain.changes = self._chain.changes or Changes(), Changes()
        self._sequence += 1
        return Change(self._sequence, changes, ())

    def mined(self, block: Block) -> "Change":
        """What left the mempool with a block."""
        self._sequence += 1
        return Change(self._sequence, Changes(), block.txids)


class Change:
    """A numbered change of the mempool."""

    def __init__(self, sequence: int, changes: Changes, mined: tuple[str, ...]) -> None:
        self._sequence, self._changes, self._mined = sequence, changes, mined

    def message(self) -> bytes:
        """What `mempool-transactions` holds of it."""
        added = {txid: msgspec.Raw(transaction_answer(one)) for txid, one in self._changes.added.items()}
        gone = set(self._changes.removed)
        replaced = [
            {"replaced": one.replaces, "by": added[txid]}
            for txid, one in self._changes.added.items()
            if one.replaces in gone
        ]
        return msgspec.json.encode(
            {
                "sequence": self._sequence,
                "added": list(added.values()),
                "removed": self._changes.removed,
                "mined": self._mined,
                "replaced": replaced,
            }
        )


def rest_answer(chain: Chain, path: list[str], now: datetime) -> bytes | None:
    """The answer to a path below `/api/`, None if there is nothing."""
    match path:
        case ["mempool"]:
            fees = sum(int(max(0.0, one.fee_rate) * one.weight / 4) for one in chain.mempool.values())
            vsize = sum(one.weight for one in chain.mempool.values()) // 4
            return msgspec.json.encode({"count": chain.waiting, "vsize": vsize, "total_fee": fees})
        case ["mempool", "txids"]:
            return msgspec.json.encode(list(chain.mempool))
        case ["tx", txid] if (served := chain.transaction(txid)) is not None:
            return transaction_answer(served, confirmed=txid not in chain.mempool)
        case ["blocks", "tip", "hash"] | ["v1", "blocks", "tip", "hash"]:
            return chain.tip.encode()
        case ["block", block_hash] if (block := chain.block(block_hash)) is not None:
            return block_answer(block)
        case ["v1", "backend-info"]:
            return msgspec.json.encode({"hostname": "local", "version": "local feed", "backend": "none"})
        case ["v1", "fees", "recommended"]:
            return msgspec.json.encode(
                {"fastestFee": 3, "halfHourFee": 2, "hourFee": 1, "economyFee": 1, "minimumFee": 1}
            )
        case ["v1", "prices"]:
            return prices_answer(now)
    return None


class Losses:
    """Loses this share of the messages of a protocol, at random. The same seed loses the same ones."""

    def __init__(self, share: float, seed: str) -> None:
        self._share = share
        self._random = Random(seed)  # noqa: S311 - to be repeatable

    def lose(self) -> bool:
        """Whether the next message is lost."""
        return self._random.random() < self._share
