"""A validated transaction, with its exact fee and sizes, which the feed does not carry."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Literal

import msgspec

from txwatch.wire.addresses import LONGEST_ADDRESS
from txwatch.wire.messages import MAX_SUPPLY_SAT, MalformedMessageError, WireInput, WireOutput, WireTransaction

SCRIPT_TYPES = (
    "p2pk",
    "p2pkh",
    "p2sh",
    "p2wpkh",
    "p2wsh",
    "p2tr",
    "p2a",
    "witness_unknown",
    "multisig",
    "op_return",
    "other",
)
"""The output types of Bitcoin Core's `Solver`, and "other". A type's place is its code in columnar form."""

_P2A = "51024e73"
_KEY = "(?:21(?:02|03)[0-9a-f]{64}|41(?:04|06|07)[0-9a-f]{128})"
_P2PK = re.compile(_KEY + "ac")
_NUMBERS = {f"{0x50 + n:02x}": n for n in range(1, 17)} | {f"01{n:02x}": n for n in range(17, 21)}
"""The number of keys by its script: OP_1 to OP_16, above that a pushed byte."""
_MULTISIG = re.compile(f"({'|'.join(_NUMBERS)})({_KEY}{{1,20}})({'|'.join(_NUMBERS)})ae")
_LONGEST_MULTISIG = 2 * (2 + 20 * 66 + 2 + 1)
_WITNESS_VERSIONS = frozenset(f"{0x50 + n:02x}" for n in range(1, 17))
_LONGEST_CACHED = 256


def script_type(script: str) -> str:
    """The type of a locking script given in hex, one of SCRIPT_TYPES."""
    # A longer script is data of one output that no other repeats: it would only fill the cache.
    return _cached_type(script) if len(script) <= _LONGEST_CACHED else _type(script)


def _type(script: str) -> str:
    n = len(script)
    if n == 44 and script.startswith("0014"):
        return "p2wpkh"
    if n == 68 and script.startswith("5120"):
        return "p2tr"
    if n == 46 and script.startswith("a914") and script.endswith("87"):
        return "p2sh"
    if n == 50 and script.startswith("76a914") and script.endswith("88ac"):
        return "p2pkh"
    if n == 68 and script.startswith("0020"):
        return "p2wsh"
    if script.startswith("6a"):
        return "op_return"
    if script == _P2A:
        return "p2a"
    if _is_unknown_witness(script):
        return "witness_unknown"
    if _P2PK.fullmatch(script):
        return "p2pk"
    return "multisig" if _is_multisig(script) else "other"


_cached_type = lru_cache(maxsize=65_536)(_type)


def _is_unknown_witness(script: str) -> bool:
    """A later version and one push of 2 to 40 bytes, and nothing else (BIP 141)."""
    return 8 <= len(script) <= 84 and script[:2] in _WITNESS_VERSIONS and script[2:4] == f"{len(script) // 2 - 2:02x}"


def _is_multisig(script: str) -> bool:
    """It has as many keys as it says, and wants no more than it has."""
    if len(script) > _LONGEST_MULTISIG or not (match := _MULTISIG.fullmatch(script)):
        return False
    wanted, keys, given = match.groups()
    return _NUMBERS[wanted] <= _NUMBERS[given] == len(re.findall(_KEY, keys))


Origin = Literal["feed", "bulk", "block"]
"""How a transaction came: live from a source, by bulk load of a capture or simulation, or in a block."""
UNCONFIRMED = 0x7FFFFFFF
"""The height of a coin that no block holds yet, as Bitcoin Core has it in its mempool (MEMPOOL_HEIGHT, txmempool.h)."""

FINAL_SEQUENCES = 0xFFFFFFFE
_MAX_TIME = 4_102_444_800  # 2100-01-01: a later time is from a broken clock, and would fall into no window


class SpentOutput(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The output that an input spends: output `n` of transaction `txid`. `value` is in satoshi.

    None is what the source does not tell: `txid`, `height` (of the block that made the coin, or UNCONFIRMED), whether
    it is a `coinbase` coin, and `value` where it could not be resolved.
    """

    addr: str | None
    value: int | None
    type: str
    n: int
    txid: str | None = None
    height: int | None = None
    coinbase: bool | None = None


class CreatedOutput(msgspec.Struct, frozen=True, gc=False):
    """One output. `value` is in satoshi."""

    addr: str | None
    value: int
    type: str
    n: int


class Transaction(msgspec.Struct, frozen=True):
    """An unconfirmed transaction as it is stored. Amounts in satoshi, `vsize` in vB, `size` in bytes, times UTC.

    `input_sat` and `fee_sat` are None, never 0, when any spent output is unknown. `tip_height` is that of the chain
    when it was seen, None where the source does not tell.
    """

    txid: str
    seen_at: datetime
    feed_time: datetime | None
    value_sat: int
    input_sat: int | None
    fee_sat: int | None
    vsize: int
    weight: int
    size: int
    input_count: int
    output_count: int
    rbf: bool
    version: int
    lock_time: int
    inputs: list[SpentOutput]
    outputs: list[CreatedOutput]
    source: Origin = "feed"
    tip_height: int | None = None

    @property
    def addresses(self) -> set[str]:
        """Every address that it spends from or pays to."""
        coins: list[SpentOutput | CreatedOutput] = [*self.inputs, *self.outputs]
        return {coin.addr for coin in coins if coin.addr is not None}

    @property
    def fee_rate(self) -> float | None:
        """sat/vB, None when the fee is unknown."""
        return None if self.fee_sat is None else self.fee_sat / self.vsize


def from_wire(tx: WireTransaction, seen_at: datetime, source: Origin = "feed") -> Transaction:
    """Validate a decoded transaction and derive fee, weight and vsize. Raises MalformedMessageError.

    Sizes follow BIP 141: the base size is counted from the parts that the feed carries, the witness is the rest of
    `size`, weight = 3 * base + size, vsize = ceil(weight / 4).
    """
    if not tx.inputs:
        raise MalformedMessageError("no inputs")
    if not tx.out:
        raise MalformedMessageError("no outputs")
    if tx.vin_sz is not None and tx.vin_sz != len(tx.inputs):
        raise MalformedMessageError(f"vin_sz says {tx.vin_sz}, inputs are {len(tx.inputs)}")
    if tx.vout_sz is not None and tx.vout_sz != len(tx.out):
        raise MalformedMessageError(f"vout_sz says {tx.vout_sz}, outputs are {len(tx.out)}")
    if tx.time is not None and tx.time >= _MAX_TIME:
        raise MalformedMessageError(f"time {tx.time} is past the year 2100")

    value_sat = sum(output.value for output in tx.out)
    if value_sat > MAX_SUPPLY_SAT:
        raise MalformedMessageError(f"outputs of {value_sat} sat exceed the 21 million BTC that can exist")
    input_sat = _input_sat(tx.inputs)
    if input_sat is not None and value_sat > input_sat:
        raise MalformedMessageError(f"outputs of {value_sat} sat exceed inputs of {input_sat} sat")

    base = base_size(tx)
    _require_hex(tx)
    witness = tx.size - base
    if witness < 0 or witness == 1:
        raise MalformedMessageError(f"size {tx.size} cannot hold {base} bytes without witness and {witness} of witness")
    weight = 3 * base + tx.size
    return Transaction(
        txid=tx.hash,
        seen_at=seen_at,
        feed_time=None if tx.time is None else datetime.fromtimestamp(tx.time, UTC),
        value_sat=value_sat,
        input_sat=input_sat,
        fee_sat=None if input_sat is None else input_sat - value_sat,
        vsize=-(-weight // 4),
        weight=weight,
        size=tx.size,
        input_count=len(tx.inputs),
        output_count=len(tx.out),
        rbf=any(i.sequence < FINAL_SEQUENCES for i in tx.inputs),
        version=tx.ver,
        lock_time=tx.lock_time,
        inputs=[
            SpentOutput(None, None, "other", 0)
            if i.prev_out is None
            else SpentOutput(_address(i.prev_out.addr), i.prev_out.value, script_type(i.prev_out.script), i.prev_out.n)
            for i in tx.inputs
        ],
        outputs=[CreatedOutput(_address(o.addr), o.value, script_type(o.script), o.n) for o in tx.out],
        source=source,
    )


def _require_hex(tx: WireTransaction) -> None:
    """Raise MalformedMessageError for a script that is not hex. Checks all joined, which takes a microsecond."""
    scripts = [output.script for output in tx.out] + [spent.script for spent in tx.inputs]
    scripts += [spent.prev_out.script for spent in tx.inputs if spent.prev_out is not None]
    # Two halves of a byte would make one together; of the other scripts the length was looked at for the size.
    if odd := next((script for script in scripts if len(script) % 2), ""):
        raise MalformedMessageError(f"script of {len(odd)} hex digits is half a byte")
    if not _is_hex("".join(scripts)):
        wrong = next((script for script in scripts if not _is_hex(script)), scripts[0])
        raise MalformedMessageError(f"script {wrong[:40]!r} is not hex")


def _is_hex(text: str) -> bool:
    try:
        # fromhex ignores white space between bytes.
        return 2 * len(bytes.fromhex(text)) == len(text) and text == text.lower()
    except ValueError:
        return False


def base_size(tx: WireTransaction) -> int:
    """Bytes of the serialization without witness: version, lock time, counts, and each input and output."""
    counts = _varint_size(len(tx.inputs)) + _varint_size(len(tx.out))
    return 8 + counts + _parts_size(tx.inputs, 40) + _parts_size(tx.out, 8)


def _parts_size(parts: Sequence[WireInput | WireOutput], fixed: int) -> int:
    """Bytes of inputs or outputs: `fixed` for each, its script, and the length of its script."""
    total = fixed * len(parts)
    # A plain loop: a generator takes as long as decoding the message.
    for part in parts:
        digits = len(part.script)
        if digits % 2:
            raise MalformedMessageError(f"script of {digits} hex digits is half a byte")
        size = digits // 2
        total += size + (1 if size < 0xFD else _varint_size(size))
    return total


def _input_sat(inputs: list[WireInput]) -> int | None:
    values = [spent.prev_out.value for spent in inputs if spent.prev_out is not None]
    if len(values) < len(inputs):
        return None
    if (total := sum(values)) > MAX_SUPPLY_SAT:
        raise MalformedMessageError(f"inputs of {total} sat exceed the 21 million BTC that can exist")
    return total


def _address(text: str | None) -> str | None:
    """The address as the feed names it, letters and digits; None for none."""
    if not text:
        return None
    if len(text) > LONGEST_ADDRESS or not (text.isascii() and text.isalnum()):
        raise MalformedMessageError(f"addr {text[:LONGEST_ADDRESS]!r} of {len(text)} characters has no address's form")
    return text


def _varint_size(n: int) -> int:
    """Bytes of Bitcoin's CompactSize encoding of n."""
    return 1 if n < 0xFD else 3 if n <= 0xFFFF else 5
