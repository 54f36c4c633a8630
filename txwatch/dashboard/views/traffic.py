"""Charts of traffic: each transaction by value and fee rate, and rate and fees over time."""

from datetime import timedelta

import altair as alt
import pandas as pd
from altair.typing import ChartType

from txwatch.dashboard import look, palette
from txwatch.dashboard.span import address
from txwatch.detection.kinds import KINDS
from txwatch.queries.feed import RecordedBlock
from txwatch.queries.traffic import TrafficPoint, TrafficSpan
from txwatch.wire.messages import SAT_PER_BTC

LEAST_RATE, LEAST_BTC = 0.1, 1e-6
"""Where the logarithmic axes begin: sat/vB and BTC. What is less is drawn there."""


def value_against_fee(points: list[TrafficPoint]) -> ChartType:
    """Total output against fee rate, both logarithmic. Unusual ones lead to their page, the others are grey."""
    known = [point for point in points if point.fee_rate is not None]
    ordinary = pd.DataFrame([_place(point) for point in known if not point.kinds], columns=["btc", "rate"])
    unusual = [point for point in known if point.kinds]
    kinds = pd.Series([_kind(point.kinds) for point in unusual], dtype=object)
    shown = kinds.map(look.kind_drawn)
    frame = pd.DataFrame(
        [
            (
                *_place(point),
                kind,
                colour,
                look.amount(point.value_sat),
                f"{point.fee_rate:,.1f} sat/vB",
                look.at(point.seen_at),
                look.short(point.txid),
                address("transaction", txid=point.txid),
            )
            for point, kind, colour in zip(unusual, kinds, shown, strict=True)
        ],
        columns=["btc", "rate", "kind", "colour", "value", "fee rate", "at", "transaction", "page"],
    )
    x = alt.X("rate:Q", scale=alt.Scale(type="log", nice=False), axis=look.log_axis("fee rate, sat/vB", -1))
    y = alt.Y("btc:Q", scale=alt.Scale(type="log", nice=False), axis=look.log_axis("total output, BTC", -6))
    dots = alt.Chart(ordinary, height=470).mark_circle(size=14, opacity=0.45, color=palette.GREY).encode(x=x, y=y)
    drawn = (
        alt.Chart(frame)
        .mark_circle(size=95, opacity=0.9, stroke="white", strokeWidth=0.8, cursor="pointer")
        .encode(
            x=x,
            y=y,
            color=alt.Color(
                "colour:N",
                scale=look.kind_colours(shown),
                legend=alt.Legend(symbolStrokeWidth=0, symbolType="circle"),
            ),
            tooltip=["kind:N", "value:N", "fee rate:N", "at:N", "transaction:N"],
            href="page:N",
        )
    )
    return alt.layer(dots, drawn)


def _place(point: TrafficPoint) -> tuple[float, float]:
    return max(point.value_sat / SAT_PER_BTC, LEAST_BTC), max(point.fee_rate or 0.0, LEAST_RATE)


def _kind(kinds: list[str]) -> str:
    """The most severe kind that alerts, in words; tags name what is left."""
    ranked = sorted(kinds, key=lambda name: -(KINDS[name].alerts * 10 + KINDS[name].severity) if name in KINDS else 0)
    return look.kind_words(ranked[0])


def transactions_over_time(traffic: list[TrafficSpan], width: timedelta) -> ChartType:
    """Transactions as bars."""
    frame = pd.DataFrame([(part.since, 0, part.transactions) for part in traffic], columns=["since", "bottom", "top"])
    transactions = alt.Tooltip("top:Q", title="transactions", format=",")
    return look.bars(frame, width, alt.ColorValue(palette.BLUE), transactions, height=130)


def transactions_say(traffic: list[TrafficSpan]) -> str:
    """The chart in words."""
    return f"Transactions over time, at most {max(part.transactions for part in traffic):,} in one bar."


def fees_over_time(traffic: list[TrafficSpan], blocks: list[RecordedBlock]) -> ChartType:
    """The median fee rate in its middle 80 %, and blocks as dashed lines."""
    frame = pd.DataFrame(
        [
            (part.since, look.at(part.since), part.fee_rate_p10, part.fee_rate_p50, part.fee_rate_p90)
            for part in traffic
        ],
        columns=["since", "at", "p10", "p50", "p90"],
    )
    x = look.utc_axis(frame["since"])
    rate = alt.Chart(frame, height=150)
    band = rate.mark_area(color=palette.ACCENT, opacity=0.22).encode(
        x=x, y=alt.Y("p10:Q", title="sat/vB", scale=alt.Scale(zero=False)), y2="p90:Q"
    )
    line = rate.mark_line(color=palette.ACCENT, strokeWidth=1.8).encode(
        x=x, y="p50:Q", tooltip=["at:N", *(alt.Tooltip(f"{name}:Q", format=",.1f") for name in ("p10", "p50", "p90"))]
    )
    found = pd.DataFrame(
        [(block.seen_at, look.at(block.seen_at), block.height) for block in blocks], columns=["since", "at", "height"]
    )
    ticks = (
        alt.Chart(found)
        .mark_rule(color=palette.GREY, strokeDash=[2, 2])
        .encode(x=x, tooltip=["at:N", alt.Tooltip("height:Q", title="block", format=",")])
    )
    return alt.layer(band, line, ticks) if blocks else alt.layer(band, line)


def fees_say(traffic: list[TrafficSpan]) -> str:
    """The chart in words."""
    rates = [part.fee_rate_p50 for part in traffic if part.fee_rate_p50 is not None]
    return (
        f"Median fee rates from {min(rates):,.1f} to {max(rates):,.1f} sat/vB." if rates else "No fee rates are known."
    )
