"""Unusual: what stood out over time, and why."""

from datetime import timedelta
from html import escape

import altair as alt
import pandas as pd
import streamlit as st
from altair.typing import ChartType

from txwatch.clock import utc_now
from txwatch.dashboard import look
from txwatch.dashboard.data import ask, ask_rarely
from txwatch.dashboard.look import freshness
from txwatch.dashboard.span import shown
from txwatch.queries.alerts import Anomaly, AnomalyCount, count_anomalies, list_anomalies
from txwatch.queries.status import read_overview


def page() -> None:
    """What was found unusual."""
    st.title("Unusual transactions")
    st.fragment(_draw, run_every=shown().again)()


def _draw() -> None:
    span = shown()
    freshness(ask(read_overview, utc_now()))
    counts = ask_rarely(count_anomalies, span.start, span.end, span.width, ttl=span.again)
    if not counts:
        st.html(look.empty(f"Nothing unusual {span.words}. A model is needed, and traffic that stands out."))
        return
    st.header("By reason")
    look.draw(_over_time(counts, span.width), "How many transactions were unusual over time, by reason.")
    kinds = ["all", *sorted({c.kind for c in counts})]
    kind = st.pills("Reason", kinds, default="all", format_func=_words, label_visibility="collapsed") or "all"
    found = ask(list_anomalies, since=span.start, until=span.end, kind=None if kind == "all" else kind, limit=40)
    # The counts are some seconds old.
    st.html("".join(map(_item, found.items)) or look.empty(f"None {span.words}."))
    if found.next:
        st.caption("The newest 40 are shown; the API lists all of them.")


def _over_time(counts: list[AnomalyCount], width: timedelta) -> ChartType:
    frame = pd.DataFrame(
        [(c.since, _words(c.kind), c.count) for c in counts], columns=["since", "reason", "transactions"]
    )
    # Stacked here: bars that have a width in time are not stacked by the library.
    frame["top"] = frame.groupby("since")["transactions"].cumsum()
    frame["bottom"] = frame["top"] - frame["transactions"]
    return look.bars(frame, width, alt.Color("reason:N"), "reason:N", "transactions:Q")


def _item(anomaly: Anomaly) -> str:
    head = [
        *(look.chip(_words(kind)) for kind in anomaly.kinds),
        escape(f"{look.clock(anomaly.seen_at)} UTC"),
        look.link(anomaly.txid),
        escape(look.amount(anomaly.value_sat, anomaly.usd_price)),
        escape(f"score {anomaly.score:.3f} of {anomaly.threshold:.3f}"),
        *look.alike(anomaly.alike),
    ]
    return look.item(head, "; ".join(r.text for r in anomaly.reasons) or "no single feature stands out")


def _words(kind: str) -> str:
    return "unlike the traffic" if kind == "forest" else kind.replace("_", " ")
