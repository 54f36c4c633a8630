"""Blocks as the REST API of blockchain.info gives them: the listing of a day, and whole blocks."""

from datetime import UTC, datetime
from typing import Annotated

import msgspec
import structlog
from msgspec import Meta, Struct

from txwatch.wire.messages import Count, Hash, MalformedMessageError, WireTransaction
from txwatch.wire.transaction import Transaction, from_wire

log = structlog.get_logger(__name__)

_COINBASE_INDEX = 0xFFFFFFFF
MOST_OF_A_BLOCK = Meta(max_length=20_000)
"""Transactions of a block: of 4,000,000 weight units at most, and the smallest one, of 60 bytes, has 240."""
_MOST_OF_A_DAY = Meta(max_length=10_000)
"""Blocks of a listing; a day has 144, and more on networks for tests."""
_DECODING_ERRORS = (msgspec.DecodeError, UnicodeError, RecursionError)


class ListedBlock(Struct, frozen=True):
    """One entry of `/blocks/<ms>`. `time` is in Unix seconds, as the miner set it."""

    hash: Hash
    height: Annotated[int, Meta(ge=0, lt=2**31)]
    time: Count


class WholeBlock(Struct):
    """The answer to `/rawblock/<hash>`. Its transactions are undecoded: a malformed one does not spoil the block."""

    hash: Hash
    prev_block: Hash
    height: Annotated[int, Meta(ge=0, lt=2**31)]
    time: Count
    n_tx: Annotated[int, Meta(ge=0, lt=2**31)]
    tx: Annotated[list[msgspec.Raw], MOST_OF_A_BLOCK]


class MinedBlock(Struct):
    """A block with its transactions but for the coinbase.

    `data_bytes` are by txid those of OP_RETURN scripts; `malformed` are the reasons and the bodies of the others.
    `network` is by Bitcoin Core's name.
    """

    hash: str
    prev_block: str
    height: int
    time: int
    n_tx: int
    transactions: list[Transaction]
    data_bytes: dict[str, int]
    malformed: list[tuple[str, bytes]] = []
    network: str = "main"


_Entries = Annotated[list[msgspec.Raw], _MOST_OF_A_DAY]


class _Listing(Struct):
    blocks: _Entries


class _Refusal(Struct):
    error: str


_refusal = msgspec.json.Decoder(_Refusal)
_listing = msgspec.json.Decoder(_Entries | _Listing)
_listed = msgspec.json.Decoder(ListedBlock)
_block = msgspec.json.Decoder(WholeBlock)
_transaction = msgspec.json.Decoder(WireTransaction)


def decode_listing(body: bytes) -> list[ListedBlock]:
    """The blocks of a day, in both forms that the service has used.

    Leaves out a malformed entry: the block after it names it. Raises MalformedMessageError, also if all are malformed.
    """
    try:
        listing = _listing.decode(body)
    except _DECODING_ERRORS as error:
        raise MalformedMessageError(f"no listing of blocks: {error}") from None
    entries = listing.blocks if isinstance(listing, _Listing) else listing
    blocks, malformed = [], []
    for entry in entries:
        try:
            blocks.append(_listed.decode(entry))
        except _DECODING_ERRORS as error:
            malformed.append(str(error))
    if malformed and not blocks:
        raise MalformedMessageError(f"no listing of blocks: {malformed[0]}")
    if malformed:
        log.warning("listed_blocks_left_out", count=len(malformed), cause=malformed[0])
    return blocks


def is_refusal(body: bytes) -> bool:
    """Whether this is the service's own answer that it has no such block; a proxy's answer has another form."""
    try:
        _refusal.decode(body)
    except _DECODING_ERRORS:
        return False
    return True


def decode_block(body: bytes) -> WholeBlock:
    """A whole block. Raises MalformedMessageError, also if `n_tx` is not the number of its transactions."""
    try:
        block = _block.decode(body)
    except _DECODING_ERRORS as error:
        raise MalformedMessageError(f"no block: {error}") from None
    if block.n_tx != len(block.tx):
        raise MalformedMessageError(f"no block: n_tx says {block.n_tx}, transactions are {len(block.tx)}")
    return block


def decode_block_transaction(body: msgspec.Raw) -> WireTransaction:
    """One transaction of a block; `time` is when the service first saw it. Raises MalformedMessageError."""
    try:
        return _transaction.decode(body)
    except _DECODING_ERRORS as error:
        raise MalformedMessageError(str(error)) from None


def mined(block: WholeBlock) -> MinedBlock:
    """The block with its transactions decoded, each seen when the service first saw it, or else at the block's time.

    Raises MalformedMessageError as `require_distinct` does.
    """
    decoded = MinedBlock(block.hash, block.prev_block, block.height, block.time, block.n_tx, [], {})
    for index, body in enumerate(block.tx):
        try:
            wire = decode_block_transaction(body)
            if index == 0 and is_coinbase(wire):
                continue
            seen_at = datetime.fromtimestamp(block.time if wire.time is None else wire.time, UTC)
            decoded.transactions.append(from_wire(wire, seen_at, "block"))
            data = (out.script for out in wire.out if out.script.startswith("6a"))
            decoded.data_bytes[wire.hash] = sum(len(script) // 2 for script in data)
        except MalformedMessageError as error:
            decoded.malformed.append((str(error), bytes(body)))
    require_distinct(decoded)
    return decoded


def require_distinct(block: MinedBlock) -> None:
    """Raise MalformedMessageError if a transaction is in a block twice: another may be missing."""
    if len(block.data_bytes) < len(block.transactions):
        raise MalformedMessageError("no block: a transaction is in it twice")


def is_coinbase(tx: WireTransaction) -> bool:
    """Whether the first transaction of a block pays the miner: it spends no output. The feed never carries it."""
    return len(tx.inputs) == 1 and ((spent := tx.inputs[0].prev_out) is None or spent.n == _COINBASE_INDEX)
