"""Why a transaction is unusual, in words for a person."""

from collections.abc import Callable

import msgspec

SAT = 100_000_000


class Reason(msgspec.Struct, frozen=True):
    """One reason. `kind` names the detector, or is `forest`; a forest's reason names its feature and percentile."""

    kind: str
    text: str
    feature: str | None = None
    value: float | None = None
    percentile: float | None = None


def btc(satoshi: float) -> str:
    """An amount for people: BTC from 0.001 BTC on, satoshi below."""
    if abs(satoshi) < SAT // 1_000:
        return f"{satoshi:,.0f} sat"
    if abs(satoshi) < SAT:
        return f"{satoshi / SAT:.8f}".rstrip("0") + " BTC"
    return f"{satoshi / SAT:,.2f} BTC"


def times(factor: float) -> str:
    """A factor for people: one decimal below ten."""
    return f"{factor:,.0f} times" if factor >= 10 else f"{factor:.1f} times"


def _plain(noun: str) -> Callable[[float], str]:
    return lambda x: f"{x:,.0f} {noun}"


_WORDS: dict[str, Callable[[float], str]] = {
    "value_sat": lambda x: f"total output of {btc(x)}",
    "fee_sat": lambda x: f"fee of {btc(x)}",
    "fee_rate": lambda x: f"fee rate of {x:,.1f} sat/vB",
    "vsize": lambda x: f"size of {x:,.0f} vB",
    "input_count": _plain("inputs"),
    "output_count": _plain("outputs"),
    "largest_output_share": lambda x: f"largest output is {x:.0%} of the total",
    "equal_output_count": _plain("outputs of one same value"),
    "equal_output_share": lambda x: f"{x:.0%} of the outputs have one same value",
    "output_entropy": lambda x: f"value spread over the outputs with {x:.1f} bits of entropy",
    "dust_outputs": _plain("dust outputs"),
    "round_outputs": _plain("outputs of round amounts"),
    "op_return_outputs": _plain("OP_RETURN outputs"),
    "input_script_types": _plain("script types among the inputs"),
    "output_script_types": _plain("script types among the outputs"),
    "reused_addresses": _plain("addresses both spent from and paid to"),
    "moved_sat": lambda x: f"{btc(x)} likely moved",
    "rbf": lambda x: "signals replaceability" if x else "does not signal replaceability",
    "fee_rate_over_median_1h": lambda x: f"fee rate is {times(x)} the median of the last hour",
    "value_over_median_24h": lambda x: f"value is {times(x)} the median of the last day",
    "input_address_tx_24h": lambda x: f"an input address with {x:,.0f} transactions in the last day",
    "input_address_spent_sat_24h": lambda x: f"input addresses that spent {btc(x)} in the last day",
}


def feature_reason(feature: str, value: float, percentile: float) -> Reason:
    """The reason that one feature gives, with where its value stands in the traffic that the model was trained on."""
    return Reason("forest", f"{_WORDS[feature](value)} ({_place(percentile)})", feature, value, round(percentile, 1))


def _place(percentile: float) -> str:
    if percentile >= 50:
        return f"more than {min(percentile, 99):.0f} % of transactions"
    return f"less than {min(100 - percentile, 99):.0f} % of transactions"
