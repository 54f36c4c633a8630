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
from txwatch.detection.reasons import priced
from txwatch.queries.alerts import Anomaly, AnomalyCount, count_anomalies, list_anomalies
from txwatch.queries.status import read_overview

ALL = "all"


def page() -> None:
    """What was found unusual."""
    st.title("Unusual transactions")
    st.fragment(_draw, run_every=shown().again)()


def _draw() -> None:
    span = shown()
    freshness(ask(read_overview, utc_now()), refreshes=span.again is not None)
    counts = ask_rarely(count_anomalies, span.start, span.end, span.width, ttl=span.again)
    if not counts:
        st.html(look.empty(f"Nothing unusual {span.words}. A model is needed, and traffic that stands out."))
        return
    st.header("By reason")
    look.draw(_over_time(counts, span.width), "How many transactions were unusual over time, by reason.")
    kinds = [ALL, *sorted({c.kind for c in counts}, key=look.kind_words)]
    kind = st.pills("Reason", kinds, default=ALL, format_func=_choice, label_visibility="collapsed") or ALL
    found = ask(list_anomalies, since=span.start, until=span.end, kind=None if kind == ALL else kind, limit=40)
    # The counts are some seconds old.
    st.html("".join(map(_item, found.items)) or look.empty(f"None {span.words}."))
    if found.next:
        st.caption("The newest 40 are shown; the API lists all of them.")


def _choice(kind: str) -> str:
    return kind if kind == ALL else look.kind_words(kind)


def _over_time(counts: list[AnomalyCount], width: timedelta) -> ChartType:
    frame = pd.DataFrame(
        [(c.since, look.kind_drawn(look.kind_words(c.kind)), c.count) for c in counts],
        columns=["since", "reason", "transactions"],
    )
    # Stacked here: bars that have a width in time are not stacked by the library.
    frame["top"] = frame.groupby("since")["transactions"].cumsum()
    frame["bottom"] = frame["top"] - frame["transactions"]
    return look.bars(
        frame,
        width,
        alt.Color("reason:N", scale=look.kind_colours(frame["reason"])),
        "reason:N",
        "transactions:Q",
        height=300,
    )


def _item(anomaly: Anomaly) -> str:
    head = [
        *map(look.kind_chip, anomaly.kinds),
        escape(f"{look.clock(anomaly.seen_at)} UTC"),
        look.link(anomaly.txid),
        escape(f"{look.amount(anomaly.value_sat, anomaly.usd_price)} in all"),
        escape(f"score {anomaly.score:.3f}, threshold {anomaly.threshold:.3f}"),
        *look.alike(anomaly.alike),
    ]
    return look.item(
        head,
        "; ".join(priced(reason, anomaly.usd_price) for reason in anomaly.reasons) or "no single feature stands out",
    )
