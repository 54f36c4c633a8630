"""Spend coins in a transaction, and its message as the feed sends it."""

from hashlib import shake_128
from itertools import repeat
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, Struct, UnsetType

from txwatch.lab.simulator.addresses import Address

Counts = Any
"""A whole number, or an array with one for each transaction."""
DUST_SAT = 330
"""The least value of an ordinary output of the simulator."""

_SIGNATURE = "48304502"
_SIGNATURE_PUSH = 73
_SEGWIT_MARKER = 2


class Unlocking(NamedTuple):
    """Bytes of input script and of witness (0 for legacy coins) that unlock one coin."""

    script_bytes: int
    witness_bytes: int


UNLOCKING = {
    "p2pkh": Unlocking(107, 0),
    "p2pkh_uncompressed": Unlocking(139, 0),
    "p2sh": Unlocking(23, 107),  # P2WPKH nested in P2SH
    "p2sh_multisig": Unlocking(253, 0),  # 2 of 3
    "p2wpkh": Unlocking(0, 107),
    "p2wsh": Unlocking(0, 253),  # 2 of 3
    "p2tr": Unlocking(0, 66),  # by key
}
"""By script type; a suffix names a rarer way."""


class Coin(Struct, gc=False):
    """An output: its owner, value in satoshi, index in its transaction, and the txid of that, once it was sent."""

    owner: Address
    value: int
    n: int = 0
    txid: str = ""


def older_txid(spender: str, place: int) -> str:
    """The made-up txid of the transaction that made the coin which another one spends first, as input `place`.

    No two coins have the same, because txids are random: it is the spender's txid backwards, but for the place.
    """
    return f"{spender[:7:-1]}{place:08x}"


class Sizes(Struct, frozen=True, gc=False):
    """Bytes without witness and of the witness."""

    base: int
    witness: int

    @property
    def size(self) -> int:
        return self.base + self.witness

    @property
    def weight(self) -> int:
        return 4 * self.base + self.witness

    @property
    def vsize(self) -> int:
        return self.base - -self.witness // 4


def sizes_of(unlocking: Unlocking, inputs: int, outputs: list[Coin]) -> Sizes:
    """The sizes of one transaction whose inputs are all unlocked in the same way."""
    digits = sum([len(coin.owner.script) for coin in outputs])
    return Sizes(*sizes(unlocking.script_bytes, unlocking.witness_bytes, inputs, len(outputs), digits))


class Draft(Struct, frozen=True, gc=False):
    """A transaction without time and txid: the coins that it spends, all unlocked in the same way, and makes."""

    coins: list[Coin]
    unlocking: Unlocking
    rbf: bool
    outputs: list[Coin]
    sizes: Sizes
    version: int = 2

    @property
    def fee_sat(self) -> int:
        return total(self.coins) - total(self.outputs)


def total(coins: list[Coin]) -> int:
    """Their value, satoshi."""
    return sum([coin.value for coin in coins])


def sizes(
    script_bytes: Counts,
    witness_bytes: Counts,
    inputs: Counts,
    outputs: Counts,
    output_digits: Counts,
    extra_witness: Counts = 0,
) -> tuple[Counts, Counts]:
    """Bytes without witness and of the witness, if all inputs are unlocked in the same way, as in 98 % of real ones.

    `output_digits` counts the hex digits of all output scripts, each below 253 bytes, so that its length is one byte.
    """
    base = 8 + _count_bytes(inputs) + _count_bytes(outputs) + 9 * outputs + output_digits // 2
    base = base + inputs * (40 + _count_bytes(script_bytes) + script_bytes)
    witness = inputs * witness_bytes + extra_witness
    return base, witness + _SEGWIT_MARKER * (witness > 0)


def input_scripts(unlocking: Unlocking, inputs: int, txid: str) -> list[str]:
    """The input script of each coin in hex: signatures and keys, whose random bytes follow from the txid."""
    n = unlocking.script_bytes
    if not n:
        return [""] * inputs
    digits = shake_128(txid.encode()).hexdigest(inputs * n)
    return [_input_script(unlocking, digits[i : i + 2 * n]) for i in range(0, len(digits), 2 * n)]


def _input_script(unlocking: Unlocking, digits: str) -> str:
    """The random digits, with the fixed ones of a script in their places."""
    n = unlocking.script_bytes
    if unlocking.witness_bytes:
        return "160014" + digits[6:]
    if n > UNLOCKING["p2pkh_uncompressed"].script_bytes:
        return "00" + _SIGNATURE + digits[10:]
    key = n - _SIGNATURE_PUSH - 1
    return f"{_SIGNATURE}{digits[8 : 2 * _SIGNATURE_PUSH - 2]}01{key:02x}{digits[2 * _SIGNATURE_PUSH + 2 :]}"


def _count_bytes(n: Counts) -> Counts:
    """Bytes of Bitcoin's CompactSize encoding of n."""
    return 1 + 2 * (n >= 0xFD) + 2 * (n > 0xFFFF)


class FeedOutput(Struct, gc=False):
    """An output, or if `spent` what an input spends, with the feed's keys in its order. No `addr` for OP_RETURN."""

    spent: bool
    tx_index: int
    type: int
    addr: str | UnsetType
    value: int
    n: int
    script: str


class FeedInput(Struct, gc=False):
    """A coin that is spent, as the feed says it."""

    sequence: int
    prev_out: FeedOutput
    script: str


class FeedTransaction(Struct, gc=False):
    """A transaction, as the feed says it."""

    lock_time: int
    ver: int
    size: int
    inputs: list[FeedInput]
    time: int
    tx_index: int
    vin_sz: int
    hash: str
    vout_sz: int
    relayed_by: str
    out: list[FeedOutput]


class FeedMessage(Struct, tag_field="op", tag="utx", gc=False):
    """A message of the feed about a transaction."""

    x: FeedTransaction


_encode = msgspec.json.Encoder().encode


def feed_message(draft: Draft, txid: str, time: int) -> bytes:
    """The `utx` message of a transaction that the feed saw at `time`, Unix seconds."""
    sequence = 0xFFFFFFFD if draft.rbf else 0xFFFFFFFF
    scripts = input_scripts(draft.unlocking, len(draft.coins), txid)
    transaction = FeedTransaction(
        lock_time=0,
        ver=draft.version,
        size=draft.sizes.size,
        inputs=list(map(FeedInput, repeat(sequence), _outputs(draft.coins, spent=True), scripts)),
        time=time,
        tx_index=0,
        vin_sz=len(draft.coins),
        hash=txid,
        vout_sz=len(draft.outputs),
        relayed_by="0.0.0.0",  # noqa: S104 - what the feed sends, no address to bind to
        out=_outputs(draft.outputs, spent=False),
    )
    return _encode(FeedMessage(transaction))


def _outputs(coins: list[Coin], *, spent: bool) -> list[FeedOutput]:
    return [FeedOutput(spent, 0, 0, coin.owner.text or UNSET, coin.value, coin.n, coin.owner.script) for coin in coins]
