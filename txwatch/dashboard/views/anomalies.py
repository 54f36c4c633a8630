"""Unusual: what stood out over time, and why."""

from datetime import datetime, timedelta
from html import escape

import altair as alt
import pandas as pd
import streamlit as st
from altair.typing import ChartType

from txwatch.clock import WINDOW, utc_now, window_start
from txwatch.dashboard import look
from txwatch.dashboard.data import ask
from txwatch.dashboard.look import freshness
from txwatch.queries.alerts import Anomaly, AnomalyCount, count_anomalies, list_anomalies
from txwatch.queries.status import read_overview

SPANS = {"1 hour": (1, WINDOW), "6 hours": (6, WINDOW), "24 hours": (24, 6 * WINDOW), "7 days": (168, 36 * WINDOW)}


def page() -> None:
    """What was found unusual."""
    st.title("Unusual transactions")
    chosen = st.segmented_control("Span", list(SPANS), default="6 hours", label_visibility="collapsed") or "6 hours"
    _unusual(chosen)


@st.fragment(run_every=10)
def _unusual(chosen: str) -> None:
    freshness(ask(read_overview, utc_now()))
    hours, width = SPANS[chosen]
    now = utc_now()
    start = window_start(now - timedelta(hours=hours))
    counts = ask(count_anomalies, start, now, width)
    if not counts:
        st.html(look.empty(f"Nothing unusual in the last {chosen}. A model is needed, and traffic that stands out."))
        return
    st.subheader("By reason")
    look.draw(_over_time(counts, width))
    kinds = ["all", *sorted({c.kind for c in counts})]
    kind = st.pills("Reason", kinds, default="all", format_func=_words, label_visibility="collapsed") or "all"
    page = ask(list_anomalies, since=start, kind=None if kind == "all" else kind, limit=40)
    st.html("".join(map(_item, page.items)))
    if page.next:
        st.caption("The newest 40 are shown; the API lists all of them.")


def _over_time(counts: list[AnomalyCount], width: timedelta) -> ChartType:
    rows: list[dict[str, object]] = []
    top: dict[datetime, int] = {}
    for c in counts:
        # Stacked here: bars that have a width in time are not stacked by the library.
        bottom = top.get(c.since, 0)
        top[c.since] = bottom + c.count
        rows.append(
            {
                "since": c.since,
                "until": c.since + 0.86 * width,
                "at": look.at(c.since),
                "kind": _words(c.kind),
                "count": c.count,
                "bottom": bottom,
                "top": top[c.since],
            }
        )
    return (
        alt.Chart(pd.DataFrame(rows), height=200)
        .mark_rect()
        .encode(
            x=look.utc_axis(form="%H:%M" if width < timedelta(hours=2) else "%d %b %H:%M"),
            x2="until:T",
            y=alt.Y("bottom:Q", title=f"transactions / {look.span(width.total_seconds())}"),
            y2="top:Q",
            color=alt.Color("kind:N"),
            tooltip=[
                alt.Tooltip("at:N", title="at"),
                alt.Tooltip("kind:N", title="reason"),
                alt.Tooltip("count:Q", title="transactions"),
            ],
        )
    )


def _item(anomaly: Anomaly) -> str:
    head = [
        *(look.chip(_words(kind)) for kind in anomaly.kinds),
        escape(f"{look.clock(anomaly.seen_at)} UTC"),
        look.link(anomaly.txid),
        escape(f"{look.btc(anomaly.value_sat)}, score {anomaly.score:.3f} of {anomaly.threshold:.3f}"),
    ]
    return look.item(head, "; ".join(r.text for r in anomaly.reasons) or "no single feature stands out")


def _words(kind: str) -> str:
    return "unlike the traffic" if kind == "forest" else kind.replace("_", " ")
