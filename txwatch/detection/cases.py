"""A transaction written down by its coins, and what must be said of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from txwatch.features.context import Context, NetworkContext
from txwatch.wire.messages import SAT_PER_BTC
from txwatch.wire.transaction import CreatedOutput, SpentOutput, Transaction

_OVERHEAD_VBYTES = 11
_INPUT_VBYTES = {"p2pk": 114, "p2pkh": 148, "p2sh": 91, "p2wpkh": 68, "p2wsh": 105, "p2tr": 58}
_OUTPUT_VBYTES = {"p2pk": 44, "p2pkh": 34, "p2sh": 32, "p2wpkh": 31, "p2wsh": 43, "p2tr": 43, "op_return": 40}
_SEEN_AT = datetime(2024, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Coin:
    """An amount in satoshi under a script type. Coins of one `owner` have one address; without, each has its own.

    A coin that is spent may tell at which height it was made, and whether it was mined then.
    """

    type: str
    sat: int
    owner: str | None = None
    height: int | None = None
    mined: bool | None = None


@dataclass(frozen=True)
class Case:
    """One transaction, when others paid `fee_rate` (sat/vB), and what must be said of it.

    `expected` is the kind of its first alerting reason, None if it must not alert; `tag` is a kind that must be among
    its reasons.
    """

    name: str
    transaction: Transaction
    fee_rate: float
    expected: str | None = None
    tag: str | None = None

    @property
    def context(self) -> Context:
        """The network as it was, as far as a rule asks. Nothing is known of addresses."""
        return Context(NetworkContext(_SEEN_AT, version=0, median_fee_rate_1h=self.fee_rate))


def written_down(
    name: str,
    spent: Sequence[Coin],
    paid: Sequence[Coin],
    *,
    extra_vbytes: int = 0,
    rbf: bool = False,
    tip_height: int | None = None,
) -> Transaction:
    """A transaction of these coins; the fee is what is left, the size is that of its script types, signed by key."""

    def address(side: str, n: int, coin: Coin) -> str | None:
        return None if coin.type == "op_return" else f"{name}/{coin.owner or f'{side}/{n}'}"

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
        inputs=[
            SpentOutput(address("from", n, coin), coin.sat, coin.type, 0, height=coin.height, coinbase=coin.mined)
            for n, coin in enumerate(spent)
        ],
        outputs=[CreatedOutput(address("to", n, coin), coin.sat, coin.type, n) for n, coin in enumerate(paid)],
        source="bulk",
        tip_height=tip_height,
    )


def sats(btc: float) -> int:
    """Satoshi."""
    return round(btc * SAT_PER_BTC)


def case(
    name: str,
    spent: Sequence[Coin],
    paid: Sequence[Coin],
    fee_rate: float,
    *,
    expected: str | None = None,
    tag: str | None = None,
    **of_transaction: Any,
) -> Case:
    """A case of coins spent and paid, at a fee rate of the hour around it in sat/vB."""
    return Case(name, written_down(name, spent, paid, **of_transaction), fee_rate, expected, tag)
