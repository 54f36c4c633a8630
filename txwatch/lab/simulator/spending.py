"""Spend coins in a transaction, and its message as the feed sends it."""

from dataclasses import dataclass
from hashlib import shake_128
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from txwatch.lab.simulator.addresses import Address

Counts = Any
"""A whole number, or an array of them: one a transaction."""
DUST_SAT = 330
"""Below this the simulator makes no ordinary output."""
FINAL_SEQUENCE = 0xFFFFFFFF
RBF_SEQUENCE = 0xFFFFFFFD

_SIGNATURE = "48304502"
_SIGNATURE_PUSH = 73
_SEGWIT_MARKER = 2


@dataclass(frozen=True)
class Unlocking:
    """How one coin is unlocked: bytes of input script, and of witness (0 for legacy coins)."""

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
"""By script type; a suffix names the rarer way."""


class Coin(Struct, frozen=True, gc=False):
    """An output: who can spend it, satoshi, and its place among the outputs of its transaction."""

    owner: Address
    value: int
    n: int = 0


class Sizes(Struct, frozen=True, gc=False):
    """Bytes without witness and of the witness."""

    base: int
    witness: int

    @property
    def size(self) -> int:
        """Bytes in all, as in the message."""
        return self.base + self.witness

    @property
    def weight(self) -> int:
        return 4 * self.base + self.witness

    @property
    def vsize(self) -> int:
        return self.base - -self.witness // 4


def sizes_of(unlocking: Unlocking, inputs: int, outputs: list[Coin]) -> Sizes:
    """The sizes of one transaction whose inputs are all unlocked in one way."""
    digits = sum([len(coin.owner.script) for coin in outputs])
    return Sizes(*sizes(unlocking.script_bytes, unlocking.witness_bytes, inputs, len(outputs), digits))


class Draft(Struct, frozen=True, gc=False):
    """A transaction before it has a time and a txid: the coins that it spends, all unlocked in one way, and makes."""

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
    """What they are worth, satoshi."""
    return sum([coin.value for coin in coins])


def sizes(
    script_bytes: Counts,
    witness_bytes: Counts,
    inputs: Counts,
    outputs: Counts,
    output_digits: Counts,
    extra_witness: Counts = 0,
) -> tuple[Counts, Counts]:
    """Bytes without witness and of the witness, of transactions whose inputs are all unlocked in one way.

    That is true of 98 % of the real ones. `output_digits` are those of all output scripts in hex, each of which is
    shorter than 253 bytes: its length takes one byte.
    """
    base = 8 + _count_bytes(inputs) + _count_bytes(outputs) + 9 * outputs + output_digits // 2
    base = base + inputs * (40 + _count_bytes(script_bytes) + script_bytes)
    witness = inputs * witness_bytes + extra_witness
    return base, witness + _SEGWIT_MARKER * (witness > 0)


def input_scripts(unlocking: Unlocking, inputs: int, txid: str) -> list[str]:
    """What unlocks each coin, in hex: signatures and keys, whose random bytes follow from the txid."""
    n = unlocking.script_bytes
    if not n:
        return [""] * inputs
    digits = shake_128(txid.encode()).hexdigest(inputs * n)
    return [_input_script(unlocking, digits[i : i + 2 * n]) for i in range(0, len(digits), 2 * n)]


def _input_script(unlocking: Unlocking, digits: str) -> str:
    """These random digits, with those that are fixed in their places."""
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
    """An output, and with `spent` what an input spends. `value` in satoshi; no `addr` for OP_RETURN."""

    spent: bool
    tx_index: int
    type: int
    addr: str | UnsetType
    value: int
    n: int
    script: str


class FeedInput(Struct, gc=False):
    sequence: int
    prev_out: FeedOutput
    script: str


class FeedTransaction(Struct, gc=False):
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


class FeedMessage(Struct, gc=False):
    op: str
    x: FeedTransaction


_encode = msgspec.json.Encoder().encode


def feed_message(draft: Draft, txid: str, time: int) -> bytes:
    """The `utx` message of a transaction that the feed saw at this time, Unix seconds."""
    sequence = RBF_SEQUENCE if draft.rbf else FINAL_SEQUENCE
    scripts = input_scripts(draft.unlocking, len(draft.coins), txid)
    transaction = FeedTransaction(
        lock_time=0,
        ver=draft.version,
        size=draft.sizes.size,
        inputs=[
            FeedInput(sequence, spent, script)
            for spent, script in zip(_outputs(draft.coins, spent=True), scripts, strict=True)
        ],
        time=time,
        tx_index=0,
        vin_sz=len(draft.coins),
        hash=txid,
        vout_sz=len(draft.outputs),
        relayed_by="0.0.0.0",  # noqa: S104 - what the feed sends, no address to bind to
        out=_outputs(draft.outputs, spent=False),
    )
    return _encode(FeedMessage("utx", transaction))


def _outputs(coins: list[Coin], *, spent: bool) -> list[FeedOutput]:
    return [FeedOutput(spent, 0, 0, coin.owner.text or UNSET, coin.value, coin.n, coin.owner.script) for coin in coins]
