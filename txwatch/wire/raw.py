"""Serialized transactions, as a node relays them (BIP 144): decode one, and derive what is stored of it."""

from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256
from struct import Struct
from struct import error as StructError  # noqa: N812
from typing import Any, NamedTuple, NoReturn

import msgspec

from txwatch.wire.addresses import MAIN, Network, script_address
from txwatch.wire.messages import MAX_SUPPLY_SAT, MalformedMessageError
from txwatch.wire.transaction import (
    FINAL_SEQUENCES,
    CreatedOutput,
    Origin,
    SpentOutput,
    Transaction,
    script_type,
)

MAX_WEIGHT = 4_000_000
"""Weight units of a block, and so of any transaction."""
_SMALLEST_INPUT, _SMALLEST_OUTPUT = 41, 9
"""Bytes, with an empty script. They bound the count of inputs and outputs that the bytes left can hold."""
_OUTPOINT, _SEQUENCE, _VALUE = Struct("<32sI"), Struct("<I"), Struct("<Q")
_NO_TXID, _NO_VOUT = "0" * 64, 0xFFFFFFFF
"""The output that a coinbase transaction spends, which is none."""


Outpoint = tuple[str, int]
"""A coin: the txid that made it, and the number of its output."""


class RawInput(NamedTuple):
    """The coin that an input spends: output `vout` of transaction `txid`; and its sequence number."""

    txid: str
    vout: int
    sequence: int


class RawOutput(NamedTuple):
    """An output's value in satoshi, and its locking script."""

    value: int
    script: bytes


class RawTransaction(msgspec.Struct, frozen=True, gc=False):
    """A decoded transaction. `size` in bytes with the witness, `weight` by BIP 141."""

    txid: str
    version: int
    inputs: list[RawInput]
    outputs: list[RawOutput]
    lock_time: int
    size: int
    weight: int

    @property
    def is_coinbase(self) -> bool:
        """Whether it pays the miner of a block: it spends no coin."""
        return len(self.inputs) == 1 and self.inputs[0][:2] == (_NO_TXID, _NO_VOUT)


class Coin(NamedTuple):
    """An output that was not spent yet. `height` is UNCONFIRMED if no block holds it. Amount in satoshi."""

    value: int
    script: bytes
    height: int
    coinbase: bool = False


class _Reader:
    """Reads a message from its beginning. Whatever would read past its end raises MalformedMessageError."""

    __slots__ = ("body", "place", "skipped")

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.place = 0
        self.skipped = 0

    def take(self, size: int, what: str) -> bytes:
        place, end = self.place, self.place + size
        if end > len(self.body):
            raise MalformedMessageError(f"cut within {what}, at byte {len(self.body)}")
        self.place = end
        return self.body[place:end]

    def unpack(self, form: Struct, what: str) -> tuple[Any, ...]:
        place = self.place
        self.place = place + form.size
        try:
            return form.unpack_from(self.body, place)
        except StructError:
            raise MalformedMessageError(f"cut within {what}, at byte {len(self.body)}") from None

    def number(self, size: int, what: str) -> int:
        place, end = self.place, self.place + size
        if end > len(self.body):
            raise MalformedMessageError(f"cut within {what}, at byte {len(self.body)}")
        self.place = end
        return int.from_bytes(self.body[place:end], "little")

    def compact_size(self, what: str) -> int:
        """A number of Bitcoin's variable length. A longer form than it needs is refused, as nodes do."""
        first = self.number(1, what)
        if first < 0xFD:
            return first
        size = 1 << first - 0xFC
        number = self.number(size, what)
        if number < (0xFD, 1 << 16, 1 << 32)[first - 0xFD]:
            raise MalformedMessageError(f"{what} of {number} is written in {size} bytes")
        return number

    def count(self, what: str, smallest: int) -> int:
        """How many of something come next, each of at least `smallest` bytes."""
        place, body = self.place, self.body
        if place < len(body) and body[place] < 0xFD:
            self.place, count = place + 1, body[place]
        else:
            count = self.compact_size(f"the number of {what}")
        if count * smallest > len(self.body) - self.place:
            raise MalformedMessageError(f"{count} {what} do not fit into the {len(self.body) - self.place} bytes left")
        return count

    def skip(self, what: str) -> int:
        """Read past a script or an item of a witness, after its length. Returns where it ends."""
        place, body = self.place, self.body
        size = body[place] if place < len(body) else 0xFD
        # Nearly all are short: a call for each part would take most of the time.
        if size < 0xFD and place + size < len(body):
            self.skipped = size
            self.place = place + 1 + size
        else:
            self.skipped = self.count(f"bytes of {what}", 1)
            self.place += self.skipped
        return self.place


def decode_raw(body: bytes) -> RawTransaction:
    """Decode a whole serialized transaction. Raises MalformedMessageError with the reason."""
    if len(body) > MAX_WEIGHT:
        raise MalformedMessageError(f"{len(body)} bytes are more than a block holds")
    reader = _Reader(body)
    version = reader.number(4, "the version")
    has_witness = body[4:5] == b"\0"
    if has_witness:
        flag = reader.take(2, "the witness flag")[1]
        if flag != 1:
            raise MalformedMessageError("no inputs" if flag == 0 else f"witness flag {flag} is unknown")
    start = reader.place
    inputs = [_input(reader) for _ in range(reader.count("inputs", _SMALLEST_INPUT))]
    if not inputs:
        raise MalformedMessageError("no inputs")
    outputs = [_output(reader) for _ in range(reader.count("outputs", _SMALLEST_OUTPUT))]
    if not outputs:
        raise MalformedMessageError("no outputs")
    end = reader.place
    if has_witness and not _skip_witness(reader, len(inputs)):
        raise MalformedMessageError("a witness without any item")
    lock_time = reader.number(4, "the lock time")
    if reader.place < len(body):
        raise MalformedMessageError(f"{len(body) - reader.place} bytes after its end")
    stripped = body[:4] + body[start:end] + body[-4:] if has_witness else body
    weight = 3 * len(stripped) + len(body)
    if weight > MAX_WEIGHT:
        raise MalformedMessageError(f"weight {weight} is more than a block holds")
    txid = sha256(sha256(stripped).digest()).digest()[::-1].hex()
    return RawTransaction(txid, version, inputs, outputs, lock_time, len(body), weight)


def _input(reader: _Reader) -> RawInput:
    previous, vout = reader.unpack(_OUTPOINT, "an input")
    reader.skip("an input's script")
    (sequence,) = reader.unpack(_SEQUENCE, "a sequence number")
    return RawInput(previous[::-1].hex(), vout, sequence)


def _output(reader: _Reader) -> RawOutput:
    (value,) = reader.unpack(_VALUE, "an output")
    if value > MAX_SUPPLY_SAT:
        raise MalformedMessageError(f"an output of {value} sat exceeds the 21 million BTC that can exist")
    end = reader.skip("an output's script")
    return RawOutput(value, reader.body[end - reader.skipped : end])


def _skip_witness(reader: _Reader, inputs: int) -> bool:
    """Read past the witness of each input. Returns whether any has an item."""
    items = 0
    for _ in range(inputs):
        count = reader.count("witness items", 1)
        items += count
        for _ in range(count):
            reader.skip("a witness item")
    return items > 0


def from_raw(
    tx: RawTransaction,
    coins: Sequence[Coin | None],
    seen_at: datetime,
    tip_height: int | None,
    network: Network = MAIN,
    source: Origin = "feed",
) -> Transaction:
    """What is stored of a transaction that spends these coins, in the order of its inputs; None for an unknown one.

    Raises MalformedMessageError for amounts that cannot be.
    """
    value_sat = sum(output.value for output in tx.outputs)
    if value_sat > MAX_SUPPLY_SAT:
        _refuse(f"outputs of {value_sat} sat exceed the 21 million BTC that can exist")
    values = [coin.value for coin in coins if coin is not None]
    input_sat = sum(values) if len(values) == len(tx.inputs) else None
    if input_sat is not None and input_sat > MAX_SUPPLY_SAT:
        _refuse(f"inputs of {input_sat} sat exceed the 21 million BTC that can exist")
    if input_sat is not None and value_sat > input_sat:
        _refuse(f"outputs of {value_sat} sat exceed inputs of {input_sat} sat")
    return Transaction(
        txid=tx.txid,
        seen_at=seen_at,
        feed_time=None,
        value_sat=value_sat,
        input_sat=input_sat,
        fee_sat=None if input_sat is None else input_sat - value_sat,
        vsize=-(-tx.weight // 4),
        weight=tx.weight,
        size=tx.size,
        input_count=len(tx.inputs),
        output_count=len(tx.outputs),
        rbf=any(spent.sequence < FINAL_SEQUENCES for spent in tx.inputs),
        version=tx.version,
        lock_time=tx.lock_time,
        inputs=[_spent(spent, coin, network) for spent, coin in zip(tx.inputs, coins, strict=True)],
        outputs=[
            CreatedOutput(script_address(output.script, network), output.value, script_type(output.script.hex()), n)
            for n, output in enumerate(tx.outputs)
        ],
        source=source,
        tip_height=tip_height,
    )


def _spent(spent: RawInput, coin: Coin | None, network: Network) -> SpentOutput:
    if coin is None:
        return SpentOutput(None, None, "other", spent.vout, spent.txid)
    address, kind = script_address(coin.script, network), script_type(coin.script.hex())
    return SpentOutput(address, coin.value, kind, spent.vout, spent.txid, coin.height, coin.coinbase)


def _refuse(reason: str) -> NoReturn:
    raise MalformedMessageError(reason)
