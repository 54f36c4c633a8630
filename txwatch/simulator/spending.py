"""What it takes to spend a coin: input scripts and witness bytes by script type, and the sizes that follow.

Belongs here: the serialization's arithmetic for transactions that are made, not decoded. `txwatch.wire.transaction`
derives the same figures from the message alone; the tests hold one against the other.
"""

from dataclasses import dataclass, field

from txwatch.simulator.draws import Draws
from txwatch.simulator.forms import FINAL_SEQUENCE, RBF_SEQUENCE, FeedInput, FeedOutput

DUST_SAT = 330
"""Below this the simulator makes no ordinary output."""

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


@dataclass(slots=True)
class Sizes:
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
        return -(-self.weight // 4)


@dataclass(slots=True)
class Draft:
    """A transaction before it has a time and a txid. Amounts in satoshi."""

    inputs: list[FeedInput]
    outputs: list[FeedOutput]
    sizes: Sizes
    version: int = 2
    lock_time: int = 0
    labels: tuple[str, ...] = field(default=())

    @property
    def fee_sat(self) -> int:
        spent = sum(i.prev_out.value for i in self.inputs if i.prev_out is not None)
        return spent - sum(o.value for o in self.outputs)


def sizes(unlocking: Unlocking, inputs: int, output_scripts: list[str], extra_witness: int = 0) -> Sizes:
    """The sizes of a transaction whose inputs are all unlocked in one way (true of 98 % of the real ones)."""
    base = 8 + _count_bytes(inputs) + _count_bytes(len(output_scripts))
    base += inputs * (40 + _count_bytes(unlocking.script_bytes) + unlocking.script_bytes)
    for script in output_scripts:
        n = len(script) // 2
        base += 8 + _count_bytes(n) + n
    witness = inputs * unlocking.witness_bytes + extra_witness
    return Sizes(base, witness + _SEGWIT_MARKER if witness else 0)


def unlock(draws: Draws, coins: list[FeedOutput], unlocking: Unlocking, rbf: bool) -> list[FeedInput]:
    """Inputs that spend these coins."""
    sequence = RBF_SEQUENCE if rbf else FINAL_SEQUENCE
    if not unlocking.script_bytes:
        return [FeedInput(sequence, coin, "") for coin in coins]
    return [FeedInput(sequence, coin, _input_script(draws, unlocking)) for coin in coins]


def _input_script(draws: Draws, unlocking: Unlocking) -> str:
    n = unlocking.script_bytes
    if unlocking.witness_bytes:
        return "160014" + draws.hex(n - 3)
    if n > UNLOCKING["p2pkh_uncompressed"].script_bytes:
        return "00" + _SIGNATURE + draws.hex(n - 5)
    key = n - _SIGNATURE_PUSH - 1
    return f"{_SIGNATURE}{draws.hex(_SIGNATURE_PUSH - 5)}01{key:02x}{draws.hex(key)}"


def _count_bytes(n: int) -> int:
    """Bytes of Bitcoin's CompactSize encoding of n."""
    if n < 0xFD:
        return 1
    return 3 if n <= 0xFFFF else 5
