"""The protocol of mempool.space: messages of its WebSocket and answers of its REST API, decoded and validated.

A transaction tells its fee, weight and vsize, which are checked against its parts, and the outpoint of every coin that
it spends. It does not tell the height of a coin, nor whether a coin is a coinbase coin.
"""

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, TypeVar

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType, field

from txwatch.wire.messages import (
    Amount,
    Count,
    Hash,
    HexScript,
    MalformedMessageError,
    WireBlock,
    WireInput,
    WireOutput,
    WirePrevout,
    WireTransaction,
)
from txwatch.wire.transaction import SpentOutput, Transaction, from_wire

PING = '{"action":"ping"}'
SUBSCRIBE_MEMPOOL = '{"track-mempool":true}'
SUBSCRIBE_BLOCKS = '{"action":"want","data":["blocks"]}'

DECODING_ERRORS = (msgspec.DecodeError, UnicodeError, RecursionError)
_TXID = re.compile("[0-9a-f]{64}")


class Output(Struct, gc=False):
    """An output; without an address for OP_RETURN and odd scripts."""

    value: Amount
    scriptpubkey: HexScript
    scriptpubkey_address: str | None = None


class Input(Struct, gc=False):
    """An input: it spends output `vout` of transaction `txid`, which is the `prevout` if it was resolved."""

    txid: Hash
    vout: Count
    scriptsig: HexScript
    sequence: Count
    prevout: Output | None = None
    is_coinbase: bool = False


class TransactionAnswer(Struct):
    """A transaction. `fee` is in satoshi, `size` in bytes, `vsize` a fraction if confirmed, `firstSeen` in seconds."""

    txid: Hash
    version: Annotated[int, Meta(ge=-(2**31), lt=2**32)]
    locktime: Count
    vin: list[Input]
    vout: list[Output]
    size: Annotated[int, Meta(gt=0, le=4_000_000)]
    weight: Annotated[int, Meta(gt=0, le=4_000_000)]
    fee: Amount
    vsize: float | None = None
    first_seen: Count | None = field(name="firstSeen", default=None)


class BlockAnswer(Struct):
    """A block, announced or asked for. `timestamp` is in Unix seconds, as the miner set it."""

    id: Hash
    height: Annotated[int, Meta(ge=0, lt=2**31)]
    timestamp: Count
    tx_count: Annotated[int, Meta(ge=0, lt=2**31)] = 0
    previousblockhash: Hash | None = None

    @property
    def announcement(self) -> WireBlock:
        """The same in the form of an announcement."""
        return WireBlock(self.id, self.height, self.timestamp, self.tx_count)


class _Named(Struct):
    txid: Hash


class Replacement(Struct):
    """A transaction that left the mempool for another that spends one of its coins."""

    replaced: Hash
    by: _Named


MOST_TOLD = 50_000
"""Transactions of one message; as many have some 50 MB. To read what is nothing takes as long as to read them."""
MOST_LEFT = 300_000
"""Txids in one message that left the mempool at once: the whole of it, as when a node starts again, has fewer."""


class MempoolChanges(Struct):
    """What changed since the message before, which had a `sequence` lower by one. All but `sequence` is undecoded.

    `added` and `replaced` are objects. What was replaced is named by `removed` too.
    """

    sequence: Annotated[int, Meta(ge=0, lt=2**53)]
    added: Annotated[list[Raw], Meta(max_length=MOST_TOLD)] = []
    removed: Annotated[list[str], Meta(max_length=MOST_LEFT)] = []
    mined: Annotated[list[str], Meta(max_length=MOST_LEFT)] = []
    replaced: Annotated[list[Raw], Meta(max_length=MOST_TOLD)] = []

    def removals(self) -> Iterator[tuple[str, str | None]]:
        """The txids that left without a block, each with the one in its place, if there is one.

        Raises MalformedMessageError after all that can be read.
        """
        replacements: dict[str, str] = {}
        faults = []
        for body in self.replaced:
            try:
                replacement = _decoded(_replacement, body, "replacement")
                replacements[replacement.replaced] = replacement.by.txid
            except MalformedMessageError as error:
                faults.append(str(error))
        yield from replacements.items()
        for txid in self.removed:
            if not _TXID.fullmatch(txid):
                faults.append(f"{txid[:80]!r} was removed and is no txid")
            elif txid not in replacements:
                yield txid, None
        if faults:
            raise MalformedMessageError(f"{faults[0]}, and {len(faults) - 1} more" if faults[1:] else faults[0])


class Message(Struct):
    """One message of the WebSocket, in undecoded parts: one that is malformed does not spoil the other."""

    changes: Raw | UnsetType = field(name="mempool-transactions", default=UNSET)
    block: Raw | UnsetType = UNSET


_message = msgspec.json.Decoder(Message)
_changes = msgspec.json.Decoder(MempoolChanges)
_replacement = msgspec.json.Decoder(Replacement)
_transaction = msgspec.json.Decoder(TransactionAnswer)
_block = msgspec.json.Decoder(BlockAnswer)
_txids = msgspec.json.Decoder(list[Hash])
_hash = msgspec.json.Decoder(Hash)

T = TypeVar("T")


def _decoded(decoder: "msgspec.json.Decoder[T]", body: bytes | Raw, what: str) -> T:
    try:
        return decoder.decode(body)
    except DECODING_ERRORS as error:
        raise MalformedMessageError(f"no {what}: {error}") from None


def decode_message(body: bytes) -> Message:
    """One message of the WebSocket. Raises MalformedMessageError."""
    return _decoded(_message, body, "message")


def decode_changes(body: bytes | Raw) -> MempoolChanges:
    """What changed in the mempool. Raises MalformedMessageError."""
    return _decoded(_changes, body, "changes of the mempool")


def decode_block(body: bytes | Raw) -> BlockAnswer:
    """A block as it is announced, or the answer to `/api/block/<hash>`. Raises MalformedMessageError."""
    return _decoded(_block, body, "block")


def decode_txids(body: bytes) -> list[str]:
    """The answer to `/api/mempool/txids`. Raises MalformedMessageError."""
    return _decoded(_txids, body, "list of txids")


def decode_hash(body: bytes) -> str:
    """The answer to `/api/blocks/tip/hash`, which is bare text. Raises MalformedMessageError."""
    return _decoded(_hash, b'"' + body.strip() + b'"', "hash of a block")


def decode_transaction(body: bytes | Raw, seen_at: datetime) -> Transaction:
    """A transaction of a message, or the answer to `/api/tx/<txid>`. Raises MalformedMessageError.

    `fee_sat` is None if a coin was not resolved: the service then tells a fee that is wrong.
    """
    answer = _decoded(_transaction, body, "transaction")
    transaction = from_wire(_as_wire(answer), seen_at)
    outpoints = {(spent.txid, spent.vout) for spent in answer.vin}
    if len(outpoints) < len(answer.vin):
        raise MalformedMessageError("spends a coin twice")
    if answer.weight != transaction.weight:
        raise MalformedMessageError(f"weight is told as {answer.weight}, and is {transaction.weight} by its parts")
    # Of an unconfirmed transaction vsize is told rounded up, of a confirmed one as a fraction.
    if answer.vsize is not None and not answer.weight <= 4 * answer.vsize < answer.weight + 4:
        raise MalformedMessageError(f"vsize is told as {answer.vsize:g}, and is {transaction.vsize} by its weight")
    if transaction.fee_sat is not None and answer.fee != transaction.fee_sat:
        raise MalformedMessageError(f"fee is told as {answer.fee}, inputs minus outputs are {transaction.fee_sat}")
    inputs = [
        SpentOutput(coin.addr, coin.value, coin.type, spent.vout, spent.txid)
        for coin, spent in zip(transaction.inputs, answer.vin, strict=True)
    ]
    return msgspec.structs.replace(transaction, inputs=inputs)


def _as_wire(answer: TransactionAnswer) -> WireTransaction:
    """The same in the form whose validation is shared. Raises MalformedMessageError for a coinbase."""
    if any(spent.is_coinbase for spent in answer.vin):
        raise MalformedMessageError("a coinbase is in no mempool")
    inputs = [WireInput(spent.scriptsig, spent.sequence, _prevout(spent)) for spent in answer.vin]
    outputs = [WireOutput(o.value, o.scriptpubkey, n, o.scriptpubkey_address) for n, o in enumerate(answer.vout)]
    return WireTransaction(
        answer.txid, answer.size, inputs, outputs, answer.version, answer.locktime, answer.first_seen or None
    )


def _prevout(spent: Input) -> WirePrevout | None:
    if (coin := spent.prevout) is None:
        return None
    return WirePrevout(coin.value, coin.scriptpubkey, spent.vout, coin.scriptpubkey_address)
