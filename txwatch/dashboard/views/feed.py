"""Feed: how complete it was heard, how fast it was landed, what was refused."""

from datetime import timedelta

import altair as alt
import pandas as pd
import streamlit as st
from altair.typing import ChartType

from txwatch.clock import WINDOW, utc_now, window_start
from txwatch.dashboard import look
from txwatch.dashboard.data import ask
from txwatch.dashboard.look import freshness
from txwatch.queries.feed import FeedSpan, list_blocks, list_gaps, list_refused, read_feed_spans
from txwatch.queries.status import read_overview

HOURS = {"1 hour": (1, WINDOW), "6 hours": (6, WINDOW), "24 hours": (24, 3 * WINDOW)}


def page() -> None:
    """The quality of the feed."""
    st.title("Feed quality")
    chosen = st.segmented_control("Span", list(HOURS), default="6 hours", label_visibility="collapsed") or "6 hours"
    _quality(chosen)


@st.fragment(run_every=10)
def _quality(chosen: str) -> None:
    overview = ask(read_overview, utc_now())
    freshness(overview)
    hours, width = HOURS[chosen]
    start = window_start(utc_now() - timedelta(hours=hours))
    spans = ask(read_feed_spans, start, window_start(utc_now()), width)
    if not any(span.transactions for span in spans):
        st.html(look.empty(f"No transaction was seen in the last {chosen}."))
        return
    # What was before the first transaction was not missed: nobody listened yet.
    spans = spans[next(i for i, span in enumerate(spans) if span.transactions) :]
    came = [span for span in spans if span.transactions]
    slowest = max((s.lag_p99_ms or 0.0 for s in came), default=0.0)
    lease = overview.lease
    st.html(
        look.tiles(
            ("Heard", f"{sum(s.heard for s in spans) / len(spans):.2%}", "of the time shown"),
            ("Transactions", look.count(sum(s.transactions for s in spans)), f"in the last {chosen}"),
            ("Slowest window", look.span(slowest / 1000), "99 % were durable within"),
            ("Messages", look.count(lease.received if lease else 0), "since the beginning"),
            (
                "Complete",
                "–" if overview.levels.completeness is None else f"{overview.levels.completeness:.2%}",
                "of what was mined in a day",
            ),
            ("Duplicates", look.count(lease.duplicates if lease else 0), "dropped"),
            ("Quarantined", look.count(overview.levels.quarantined), "kept with the reason"),
        )
    )
    st.subheader("Heard")
    look.draw(_heard(spans, width))
    st.subheader("From receipt to durable row")
    look.draw(_lags(came))
    _lists()


def _heard(spans: list[FeedSpan], width: timedelta) -> ChartType:
    frame = pd.DataFrame(
        {
            "since": [s.since for s in spans],
            "until": [s.since + 0.86 * width for s in spans],
            "at": [look.at(s.since) for s in spans],
            "transactions": [s.transactions for s in spans],
            "bottom": 0,
            "heard": [s.heard for s in spans],
            "state": ["whole" if s.heard >= 1 else "with a gap" for s in spans],
        }
    )
    return (
        alt.Chart(frame, height=180)
        .mark_rect()
        .encode(
            x=look.utc_axis(),
            x2="until:T",
            y=alt.Y("transactions:Q", title=f"transactions / {look.span(width.total_seconds())}"),
            y2="bottom:Q",
            color=alt.Color("state:N", scale=alt.Scale(domain=["whole", "with a gap"], range=[look.BLUE, look.ACCENT])),
            tooltip=[
                alt.Tooltip("at:N", title="at"),
                alt.Tooltip("transactions:Q", format=","),
                alt.Tooltip("heard:Q", title="heard", format=".1%"),
            ],
        )
    )


def _lags(spans: list[FeedSpan]) -> ChartType:
    rows = [
        {"since": s.since, "ms": ms, "of": name}
        for s in spans
        for name, ms in (("median", s.lag_p50_ms), ("99 %", s.lag_p99_ms))
        if ms is not None
    ]
    return (
        alt.Chart(pd.DataFrame(rows, columns=["since", "ms", "of"]), height=180)
        .mark_line(strokeWidth=1.7)
        .encode(
            x=look.utc_axis(),
            y=alt.Y("ms:Q", title="ms"),
            color=alt.Color(
                "of:N",
                scale=alt.Scale(domain=["median", "99 %"], range=[look.BLUE, look.ACCENT]),
                legend=alt.Legend(symbolType="stroke"),
            ),
            tooltip=["of:N", alt.Tooltip("ms:Q", format=",.0f")],
        )
    )


def _lists() -> None:
    st.subheader("Gaps")
    gaps = ask(list_gaps, utc_now(), limit=20).items
    if gaps:
        rows = [
            [f"{g.started_at:%d %b %H:%M:%S}", look.span(g.seconds), g.state, look.count(g.recovered), g.cause]
            for g in gaps
        ]
        st.html(look.table(["from, UTC", "length", "state", "recovered", "cause"], rows, numbers={1, 3}))
    else:
        st.html(look.empty("No gap: the feed was heard all the time."))
    refused, blocks = st.columns(2, gap="large")
    with refused:
        st.subheader("Refused messages")
        found = ask(list_refused, limit=10).items
        table = [[f"{m.received_at:%d %b %H:%M:%S}", look.count(m.size), m.reason] for m in found]
        st.html(
            look.table(["at, UTC", "bytes", "reason"], table, numbers={1})
            if found
            else look.empty("No message was refused.")
        )
    with blocks:
        st.subheader("Blocks")
        known = ask(list_blocks, limit=10).items
        table = [
            [
                f"{b.seen_at:%d %b %H:%M:%S}",
                look.count(b.height) + (" (stale)" if b.stale else ""),
                look.count(b.tx_count),
                "–" if b.completeness is None else f"{b.completeness:.2%}",
            ]
            for b in known
        ]
        st.html(
            look.table(["seen, UTC", "height", "transactions", "seen before"], table, numbers={1, 2, 3})
            if known
            else look.empty("No block was announced yet.")
        )
