"""Now: the rate of transactions, how far behind it is, the last alerts, and the health checks."""

from datetime import timedelta
from html import escape

import altair as alt
import pandas as pd
import streamlit as st
from altair.typing import ChartType

from txwatch.clock import utc_now
from txwatch.dashboard import look, palette
from txwatch.dashboard.data import ask
from txwatch.dashboard.look import freshness
from txwatch.detection.reasons import priced
from txwatch.queries.alerts import AlertSummary, list_alerts
from txwatch.queries.feed import FeedSpan, read_feed_spans
from txwatch.queries.status import HealthCheck, Overview, latest_health, read_overview

MINUTE = timedelta(minutes=1)


@st.fragment(run_every=4)
def page() -> None:
    """The first page."""
    st.title("Now")
    overview = ask(read_overview, utc_now())
    freshness(overview)
    _figures(overview)
    st.subheader("Transactions a minute")
    end = utc_now().replace(second=0, microsecond=0)
    look.draw(_rate(ask(read_feed_spans, end - timedelta(hours=1), end, MINUTE)))
    alerts, health = st.columns([2, 1], gap="large")
    with alerts:
        st.subheader("Last alerts")
        found = ask(list_alerts, limit=8).items
        st.html("".join(map(alert_item, found)) or look.empty("No alert yet: nothing was unusual."))
    with health:
        st.subheader("Health")
        st.html(_health(ask(latest_health)))


def alert_item(alert: AlertSummary) -> str:
    """One alert in a list."""
    head = [
        look.chip(alert.kinds[0].replace("_", " "), palette.SEVERITY[alert.severity]),
        escape(f"{look.clock(alert.seen_at)} UTC"),
        look.link(alert.alert_key),
        escape(", ".join(alert.states) or "not sent"),
        *look.alike(alert.alike),
    ]
    reasons = "; ".join(priced(reason, alert.usd_price) for reason in alert.reasons[:3])
    return look.item(head, reasons or "no single feature stands out")


def _figures(overview: Overview) -> None:
    levels, lag = overview.levels, overview.lag_seconds
    waiting = f"{levels.deliveries_pending} wait, {levels.deliveries_uncertain} uncertain"
    look.draw_tiles(
        ("Transactions", f"{levels.transactions_1m / 60:.1f} / s", f"{look.count(levels.transactions_1h)} in an hour"),
        ("Behind the feed", "–" if lag is None else look.span(lag), "received to committed"),
        ("Unusual", look.count(levels.unusual_1h), "in the last hour"),
        ("Alerts", look.count(levels.alerts_1h), f"in the last hour; {waiting}"),
        (
            "Model",
            f"version {levels.model_version}" if levels.model_version else "none yet",
            f"threshold {levels.threshold:.3f}" if levels.threshold else "",
        ),
        ("Gaps", look.span(levels.gap_seconds) if levels.gap_seconds else "none", f"{levels.open_gaps} open now"),
    )


def _rate(spans: list[FeedSpan]) -> ChartType:
    frame = pd.DataFrame(
        [(s.since, look.at(s.since), s.transactions) for s in spans], columns=["since", "at", "transactions"]
    )
    return (
        alt.Chart(frame, height=170)
        .mark_area(
            color=palette.BLUE, opacity=0.18, line={"color": palette.BLUE, "strokeWidth": 1.6}, interpolate="monotone"
        )
        .encode(
            x=look.utc_axis(), y=alt.Y("transactions:Q", title="transactions / min"), tooltip=["at:N", "transactions:Q"]
        )
    )


def _health(checks: list[HealthCheck]) -> str:
    if not checks:
        return look.empty("No health check has run yet.")
    marks = {"well": ("ok", "●"), "wrong": ("bad", "▲"), "unknown": ("unclear", "○")}
    rows = []
    for check in sorted(checks, key=lambda c: (c.state != "wrong", c.name)):
        style, mark = marks[check.state]
        name = escape(check.name.replace("_", " "))
        text = f'<div class="text">{escape(check.text)}</div>' if check.state == "wrong" else ""
        rows.append(
            f'<div class="item"><div class="head"><span class="{style}">{mark}</span> {name}'
            f" <span>{escape(look.clock(check.checked_at))} UTC</span></div>{text}</div>"
        )
    return "".join(rows)
