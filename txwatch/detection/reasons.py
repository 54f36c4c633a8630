"""Why a transaction is unusual, in words for a person."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from txwatch.wire.messages import SAT_PER_BTC
from txwatch.wire.prices import worth


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason. `kind` names the detector, or is `forest`; a forest's reason names its feature and percentile."""

    kind: str
    text: str
    feature: str | None = None
    value: float | None = None
    percentile: float | None = None


def btc(satoshi: float) -> str:
    """An amount for people: BTC from 0.001 BTC on, satoshi below."""
    if abs(satoshi) < SAT_PER_BTC // 1_000:
        return f"{satoshi:,.0f} sat"
    if abs(satoshi) < SAT_PER_BTC:
        return f"{satoshi / SAT_PER_BTC:.8f}".rstrip("0") + " BTC"
    return f"{satoshi / SAT_PER_BTC:,.2f} BTC"


def money(satoshi: float, usd_price: float | None) -> str:
    """An amount for people, such as `2,458.00 BTC · 233 M USD`; without a price in BTC alone."""
    usd = worth(satoshi, usd_price)
    return btc(satoshi) if usd is None else f"{btc(satoshi)} · {dollars(usd)}"


def dollars(amount: float) -> str:
    """USD for people: millions and more with three digits, less to the dollar, and to the cent below ten."""
    for unit, name in ((1e12, "T "), (1e9, "B "), (1e6, "M ")):
        if abs(amount) >= unit:
            return f"{amount / unit:,.{max(0, 2 - int(math.log10(abs(amount) / unit)))}f} {name}USD"
    return f"{amount:,.0f} USD" if abs(amount) >= 10 else f"{amount:.2f} USD"


def priced(reason: Reason, usd_price: float | None) -> str:
    """The reason's text, with what the amount was worth that it is about, if it is about one."""
    if reason.value is None or reason.feature is None or not reason.feature.endswith("_sat"):
        return reason.text
    return reason.text.replace(btc(reason.value), money(reason.value, usd_price), 1)


def times(factor: float) -> str:
    """A factor for people: one decimal below ten, two digits below one, which is never rounded up to one."""
    if factor < 1:
        return f"{min(factor, 0.99):.2g} times"
    return f"{factor:,.0f} times" if factor >= 10 else f"{factor:.1f} times"


def _count(noun: str, rest: str = "", many: str = "s") -> Callable[[float], str]:
    return lambda x: f"{x:,.0f} {noun}{'' if x == 1 else many}{rest}"


_WORDS: dict[str, Callable[[float], str]] = {
    "value_sat": lambda x: f"total output of {btc(x)}",
    "fee_sat": lambda x: f"fee of {btc(x)}",
    "fee_rate": lambda x: f"fee rate of {x:,.1f} sat/vB",
    "fee_share": lambda x: f"fee is {x:.0%} of what was spent",
    "vsize": lambda x: f"size of {x:,.0f} vB",
    "witness_share": lambda x: f"witness is {x:.0%} of its bytes",
    "input_count": _count("input"),
    "output_count": _count("output"),
    "outputs_per_input": lambda x: f"{x:,.1f} outputs for each input",
    "equal_input_share": lambda x: f"{x:.0%} of the inputs have one same value",
    "input_value_spread": lambda x: f"smallest input is {1 - x:.1%} of the largest",
    "largest_output_share": lambda x: f"largest output is {x:.0%} of the total",
    "equal_output_count": _count("output", " of one same value"),
    "equal_output_share": lambda x: f"{x:.0%} of the outputs have one same value",
    "equal_output_value_share": lambda x: f"{x:.0%} of the value in outputs of equal values",
    "output_entropy": lambda x: f"value spread as if over {2**x:,.1f} equal outputs",
    "distinct_output_values": _count("different output value"),
    "distinct_output_addresses": _count("different address", " paid to", "es"),
    "dust_outputs": _count("dust output"),
    "round_outputs": _count("output", " of a round amount"),
    "op_return_outputs": _count("OP_RETURN output"),
    "input_script_types": _count("script type", " among the inputs"),
    "output_script_types": _count("script type", " among the outputs"),
    "same_script_type": lambda x: "one script type throughout" if x else "mixes script types",
    "input_legacy_share": lambda x: f"{x:.0%} of the inputs are of old script types",
    "input_taproot_share": lambda x: f"{x:.0%} of the inputs are taproot",
    "output_legacy_share": lambda x: f"{x:.0%} of the outputs are of old script types",
    "output_taproot_share": lambda x: f"{x:.0%} of the outputs are taproot",
    "reused_addresses": _count("address", " both spent from and paid to", "es"),
    "moved_low_sat": lambda x: f"at least {btc(x)} moved",
    "moved_sat": lambda x: f"{btc(x)} likely moved",
    "moved_high_sat": lambda x: f"at most {btc(x)} moved",
    "change_share": lambda x: f"{x:.0%} of the value is likely change",
    "input_age_max_blocks": lambda x: f"spends a coin that is {x:,.0f} blocks old",
    "coin_days_destroyed": lambda x: f"destroys {x:,.1f} coin days (BTC times days of age)",
    "rbf": lambda x: "signals replaceability" if x else "does not signal replaceability",
    "version": lambda x: f"transaction version {x:.0f}",
    "lock_time_kind": lambda x: ("no lock time", "locked until a block height", "locked until a moment")[int(x)],
    "fee_rate_over_median_1h": lambda x: f"fee rate is {times(x)} the median of the last hour",
    "fee_rate_over_median_24h": lambda x: f"fee rate is {times(x)} the median of the last day",
    "value_over_median_24h": lambda x: f"value is {times(x)} the median of the last day",
    "value_over_p99_24h": lambda x: f"value is {times(x)} what 99 % of the last day stayed below",
    "kind_share_24h": lambda x: f"{x:.1%} of the last day's transactions are of its kind",
    "arrivals_1h_over_24h": lambda x: f"the last hour brought {times(x)} the usual number of transactions",
    "input_address_tx_24h": lambda x: f"an input address with {x:,.0f} transactions in the last day",
    "input_address_tx_sum_24h": lambda x: f"input addresses with {x:,.0f} transactions in the last day",
    "input_address_received_sat_max_24h": lambda x: f"an input address that received {btc(x)} in the last day",
    "input_address_received_sat_24h": lambda x: f"input addresses that received {btc(x)} in the last day",
    "input_address_spent_sat_max_24h": lambda x: f"an input address that spent {btc(x)} in the last day",
    "input_address_spent_sat_24h": lambda x: f"input addresses that spent {btc(x)} in the last day",
    "input_address_known_h_24h": lambda x: f"an input address first seen {x:,.1f} hours ago",
    "input_address_idle_h_24h": lambda x: f"input addresses idle for {x:,.1f} hours",
    "input_address_velocity_24h": lambda x: f"an input address with {x:,.1f} transactions an hour",
    "input_address_velocity_sum_24h": lambda x: f"input addresses with {x:,.1f} transactions an hour",
}


def feature_words(feature: str, value: float) -> str:
    """What a value of a feature says, in words."""
    return _WORDS[feature](value)


def feature_reason(feature: str, value: float, percentile: float) -> Reason:
    """The reason that one feature gives, with where its value stands in the traffic that the model was trained on."""
    return Reason(
        "forest", f"{feature_words(feature, value)} ({_place(percentile)})", feature, value, round(percentile, 1)
    )


def _place(percentile: float) -> str:
    if percentile >= 50:
        return f"more than {min(percentile, 99):.0f} % of transactions"
    return f"less than {min(100 - percentile, 99):.0f} % of transactions"
