"""Transactions written down from what is publicly known of them, to hold detectors and models to.

Belongs here: how such a case is written and judged. The cases are in `incidents.py` and `look_alikes.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256

from txwatch.detection.detectors import Detector
from txwatch.detection.kinds import alerting
from txwatch.detection.model import Model
from txwatch.detection.reasons import SAT
from txwatch.detection.score import score
from txwatch.features.context import Context, NetworkContext
from txwatch.wire.transaction import CreatedOutput, SpentOutput, Transaction

_OVERHEAD_VBYTES = 11
_INPUT_VBYTES = {"p2pk": 114, "p2pkh": 148, "p2sh": 91, "p2wpkh": 68, "p2wsh": 105, "p2tr": 58}
_OUTPUT_VBYTES = {"p2pk": 44, "p2pkh": 34, "p2sh": 32, "p2wpkh": 31, "p2wsh": 43, "p2tr": 43, "op_return": 40}
_SEEN_AT = datetime(2024, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Coin:
    """An amount in satoshi under a script type. Coins of one `owner` have one address; without, each has its own."""

    type: str
    sat: int
    owner: str | None = None


@dataclass(frozen=True)
class Case:
    """One transaction and what must be said of it.

    `expected` is the kind of its first alerting reason, None if it must not alert; `tag` is a kind that must be among
    its reasons. `fee_rate` (sat/vB) is what others paid then.
    """

    name: str
    what: str
    transaction: Transaction
    fee_rate: float
    expected: str | None = None
    tag: str | None = None

    @property
    def context(self) -> Context:
        """The network as it was, as far as a rule asks. Nothing is known of addresses."""
        return Context(NetworkContext(_SEEN_AT, version=0, median_fee_rate_1h=self.fee_rate))


@dataclass(frozen=True)
class Verdict:
    """What a model and the detectors said of a case; `first` is the kind of the first alerting reason."""

    case: Case
    first: str | None
    kinds: tuple[str, ...]
    score: float
    threshold: float

    @property
    def right(self) -> bool:
        """Whether it is what had to be said."""
        return self.first == self.case.expected and (self.case.tag is None or self.case.tag in self.kinds)


def judge_cases(cases: Sequence[Case], model: Model, detectors: Sequence[Detector]) -> list[Verdict]:
    """Put each case through the one scoring path."""
    verdicts = []
    for case in cases:
        scored = score([case.transaction], case.context, model, detectors)[0]
        kinds = tuple(dict.fromkeys(reason.kind for reason in scored.reasons))
        first = next((kind for kind in kinds if alerting([r for r in scored.reasons if r.kind == kind])), None)
        if first is None and scored.is_anomaly:
            first = "forest"  # unusual, and no single feature stands out
        verdicts.append(Verdict(case, first, kinds, scored.score, scored.threshold))
    return verdicts


def written_down(
    name: str, spent: Sequence[Coin], paid: Sequence[Coin], *, extra_vbytes: int = 0, rbf: bool = False
) -> Transaction:
    """A transaction of these coins; the fee is what is left, the size is that of its script types, signed by key."""
    value, total = sum(coin.sat for coin in paid), sum(coin.sat for coin in spent)
    vsize = _OVERHEAD_VBYTES + extra_vbytes
    vsize += sum(_INPUT_VBYTES[coin.type] for coin in spent) + sum(_OUTPUT_VBYTES[coin.type] for coin in paid)
    return Transaction(
        txid=sha256(name.encode()).hexdigest(),
        seen_at=_SEEN_AT,
        feed_time=None,
        value_sat=value,
        input_sat=total,
        fee_sat=total - value,
        vsize=vsize,
        weight=4 * vsize,
        size=vsize,
        input_count=len(spent),
        output_count=len(paid),
        rbf=rbf,
        version=2,
        lock_time=0,
        inputs=[SpentOutput(_address(name, "from", n, coin), coin.sat, coin.type, 0) for n, coin in enumerate(spent)],
        outputs=[CreatedOutput(_address(name, "to", n, coin), coin.sat, coin.type, n) for n, coin in enumerate(paid)],
        source="bulk",
    )


def btc(amount: float) -> int:
    """Satoshi."""
    return round(amount * SAT)


def _address(name: str, side: str, number: int, coin: Coin) -> str | None:
    if coin.type == "op_return":
        return None
    return f"{name}/{coin.owner}" if coin.owner else f"{name}/{side}/{number}"
