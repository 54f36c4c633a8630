"""Feed: how complete it is, how fast it was landed, what was refused."""

from datetime import timedelta

import altair as alt
import pandas as pd
import streamlit as st
from altair.typing import ChartType

from txwatch.clock import EPOCH, utc_now
from txwatch.dashboard import look, palette
from txwatch.dashboard.data import ask, ask_rarely
from txwatch.dashboard.look import freshness
from txwatch.dashboard.span import shown
from txwatch.queries.feed import FeedSpan, list_blocks, list_gaps, list_refused, read_feed_spans
from txwatch.queries.sources import read_sources
from txwatch.queries.status import read_overview


def page() -> None:
    """The quality of the feed."""
    st.title("Feed quality")
    st.fragment(_draw, run_every=shown().again)()


def _draw() -> None:
    chosen = shown()
    overview = ask(read_overview, utc_now())
    freshness(overview, refreshes=chosen.again is not None)
    start, end = (moment - (moment - EPOCH) % chosen.width for moment in (chosen.start, chosen.end))
    spans = ask_rarely(read_feed_spans, start, end, chosen.width, ttl=chosen.again)
    if not any(span.transactions for span in spans):
        st.html(look.empty(f"No transaction was seen {chosen.words}."))
        return
    # Before the first transaction no worker listened yet.
    spans = spans[next(i for i, span in enumerate(spans) if span.transactions) :]
    came = [span for span in spans if span.transactions]
    slowest, lease = max(s.lag_p99_ms or 0.0 for s in came), overview.lease
    look.draw_tiles(
        ("Heard", look.share(sum(s.heard for s in spans) / len(spans)), "of the time shown"),
        ("Transactions", look.count(sum(s.transactions for s in spans)), chosen.words),
        ("Slowest window", look.span(slowest / 1000), "99 % were durable within"),
        ("Messages", look.count(lease.received if lease else 0), "since the beginning"),
        ("Complete", look.share(overview.levels.completeness), "of what was mined in a day"),
        ("Duplicates", look.count(lease.duplicates if lease else 0), "dropped"),
        ("Quarantined", look.count(overview.levels.quarantined), "kept with the reason"),
    )
    st.header("Heard")
    look.draw(_heard(spans, chosen.width), "Transactions over time, and where the feed was not heard.")
    st.header("From receipt to durable row")
    look.draw(_lags(came), "Milliseconds from receipt to durable row over time.")
    _lists()


def _heard(spans: list[FeedSpan], width: timedelta) -> ChartType:
    rows = [(s.since, s.transactions, 0, s.heard, "whole" if s.heard >= 1 else "with a gap") for s in spans]
    frame = pd.DataFrame(rows, columns=["since", "top", "bottom", "heard", "state"])
    colour = alt.Color("state:N", scale=alt.Scale(domain=["whole", "with a gap"], range=[palette.BLUE, palette.ACCENT]))
    transactions = alt.Tooltip("top:Q", title="transactions", format=",")
    return look.bars(frame, width, colour, transactions, alt.Tooltip("heard:Q", format=".1%"))


def _lags(spans: list[FeedSpan]) -> ChartType:
    rows = [
        {"since": s.since, "ms": ms, "of": name}
        for s in spans
        for name, ms in (("median", s.lag_p50_ms), ("99 %", s.lag_p99_ms))
        if ms is not None
    ]
    frame = pd.DataFrame(rows, columns=["since", "ms", "of"])
    return (
        alt.Chart(frame, height=180)
        .mark_line(strokeWidth=1.7)
        .encode(
            x=look.utc_axis(frame["since"]),
            y=alt.Y("ms:Q", title="ms"),
            color=alt.Color(
                "of:N",
                scale=alt.Scale(domain=["median", "99 %"], range=[palette.BLUE, palette.ACCENT]),
                legend=alt.Legend(symbolType="stroke"),
            ),
            tooltip=["of:N", alt.Tooltip("ms:Q", format=",.0f")],
        )
    )


def _lists() -> None:
    st.header("Sources")
    sources = [
        [
            ("" if s.connected else "away: ") + s.source,
            look.count(s.transactions_1h),
            look.share(s.share_1h),
            look.count(s.alone_1h),
            look.count(s.first_1h),
            "–" if s.behind_p50_ms is None else look.span(s.behind_p50_ms / 1000),
            look.share(s.completeness_1d),
            look.share(s.explained_1d),
        ]
        for s in ask(read_sources, utc_now())
    ]
    columns = ["source", "in an hour", "of all", "alone", "first", "later by", "of blocks", "not relayed"]
    st.html(look.table(columns, sources, (1, 2, 3, 4, 5, 6, 7), "No source was followed yet."))
    st.caption(
        "Of the last hour: how many transactions each source told, its share of all, how many it alone told, how many"
        " it told first, and how much later than the first it told the others. Of the last day's blocks: the share of"
        " their transactions that it told before, and the share that it does not relay by its own policy."
    )
    st.header("Gaps")
    gaps = [
        [f"{g.started_at:%d %b %H:%M:%S}", g.source, look.span(g.seconds), g.state, look.count(g.recovered), g.cause]
        for g in ask(list_gaps, utc_now(), limit=20).items
    ]
    columns = ["from, UTC", "source", "length", "state", "came back", "cause"]
    st.html(look.table(columns, gaps, (2, 4), "No gap: the feed was heard all the time."))
    left, right = st.columns(2, gap="large")
    with left:
        st.header("Refused messages")
        refused = [
            [f"{m.received_at:%d %b %H:%M:%S}", look.count(m.size), m.reason] for m in ask(list_refused, limit=10).items
        ]
        st.html(look.table(["at, UTC", "bytes", "reason"], refused, (1,), "No message was refused."))
    with right:
        st.header("Blocks")
        blocks = [
            [
                f"{b.seen_at:%d %b %H:%M:%S}",
                look.count(b.height) + (" (stale)" if b.stale else ""),
                look.count(b.tx_count),
                look.share(b.completeness),
            ]
            for b in ask(list_blocks, limit=10).items
        ]
        columns = ["seen, UTC", "height", "transactions", "seen before"]
        st.html(look.table(columns, blocks, (1, 2, 3), "No block was announced yet."))
