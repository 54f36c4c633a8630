"""Models: champion against challenger, what each finds unusual, the budget, and what people say of the alerts."""

from datetime import timedelta

import altair as alt
import pandas as pd
import streamlit as st
from altair.typing import ChartType

from txwatch.alerts.store import Precision, read_precision
from txwatch.clock import utc_now
from txwatch.dashboard import look, palette
from txwatch.dashboard.data import ask, ask_rarely, settings
from txwatch.dashboard.look import freshness
from txwatch.dashboard.span import Span, shown
from txwatch.queries.models import (
    HourOfScores,
    ScoreBin,
    VersionScores,
    agreement,
    hours_of_scores,
    score_histogram,
    scores_by_version,
)
from txwatch.queries.status import read_overview


def page() -> None:
    """The models page."""
    st.title("Models")
    st.fragment(_draw, run_every=shown().again and 30)()


def _draw() -> None:
    span = shown()
    freshness(ask(read_overview, utc_now()), refreshes=span.again is not None)
    versions = ask_rarely(scores_by_version, span.start, span.end, ttl=span.again)
    if not versions:
        first = "The first model is trained by itself after 5,000 transactions."
        st.html(look.empty(f"No model has scored {span.words}. {first}"))
        return
    st.html(_versions(versions))
    st.caption("Unusual: over the threshold or found by a rule, every transaction of a campaign counted.")
    champion = next((v for v in versions if not v.shadow), versions[0])
    other = next((v for v in versions if v.model_version != champion.model_version), None)
    if other is not None:
        _against(champion, other, span)
    left, right = st.columns(2, gap="large")
    with left:
        st.header("Scores")
        look.draw(
            _histogram(ask_rarely(score_histogram, span.start, span.end, ttl=span.again), champion.threshold),
            f"How many transactions had which score; from {champion.threshold:.3f} on they are unusual.",
        )
        st.caption(f"Dashed: the threshold of {champion.threshold:.3f}, from which on one is unusual.")
    with right:
        st.header("Use of the alert budget")
        budget = settings().alerts_per_hour
        look.draw(
            _budget(ask_rarely(hours_of_scores, span.start, span.end, ttl=span.again), budget),
            f"Transactions over the threshold by hour, of {budget:g}.",
        )
        st.caption(f"Transactions over the threshold, one of each campaign. Dashed: the budget of {budget:g} an hour.")
    st.header("Useful, by people's verdicts")
    judged = ask(read_precision, utc_now() - timedelta(days=30))
    if judged:
        look.draw(_precision(judged), "The share of judged alerts that were useful, by kind and model.")
    else:
        st.html(
            look.empty("Nobody has judged an alert yet: the buttons below each message do, the page Cases and the API.")
        )


def _versions(versions: list[VersionScores]) -> str:
    return look.table(
        ["version", "role", "scored", "unusual", "threshold", "median", "99 %", "last scored, UTC"],
        [
            [
                v.model_version,
                "shadow" if v.shadow else "scores",
                look.count(v.scored),
                f"{look.count(v.unusual)} ({v.unusual / v.scored:.2%})",
                f"{v.threshold:.3f}",
                f"{v.score_p50:.3f}",
                f"{v.score_p99:.3f}",
                f"{v.last_scored_at:%d %b %H:%M}",
            ]
            for v in versions
        ],
        range(2, 7),
    )


def _against(champion: VersionScores, other: VersionScores, span: Span) -> None:
    a, b = champion.model_version, other.model_version
    found = ask(agreement, a, b, span.start, span.end)
    if not found.transactions:
        return
    either = found.unusual_a + found.unusual_b - found.unusual_both
    st.header(f"Version {a} against version {b}")
    look.draw_tiles(
        ("Scored by both", look.count(found.transactions), span.words),
        ("Correlation", "–" if found.correlation is None else f"{found.correlation:.3f}", "of their scores"),
        (f"Only version {a}", look.count(found.unusual_a - found.unusual_both), "over its threshold"),
        (f"Only version {b}", look.count(found.unusual_b - found.unusual_both), "over its threshold"),
        ("Both", look.count(found.unusual_both), f"of {look.count(either)} over either's"),
    )


def _histogram(bins: list[ScoreBin], threshold: float) -> ChartType:
    frame = pd.DataFrame(
        [{"score": b.score + 0.005, "count": b.count, "version": f"version {b.model_version}"} for b in bins]
    )
    lines = (
        alt.Chart(frame, height=230)
        .mark_line(interpolate="step", strokeWidth=1.7)
        .encode(
            x=alt.X("score:Q", title="score", scale=alt.Scale(zero=False)),
            y=alt.Y("count:Q", axis=look.log_axis("transactions"), scale=alt.Scale(type="log")),
            color=alt.Color("version:N", legend=alt.Legend(symbolType="stroke")),
            tooltip=["version:N", alt.Tooltip("score:Q", format=".3f"), "count:Q"],
        )
    )
    return alt.layer(lines, look.line_at(threshold, f"threshold {threshold:.3f}", upright=True))


def _budget(hours: list[HourOfScores], budget: float) -> ChartType:
    frame = pd.DataFrame([(h.since, 0, h.over_threshold) for h in hours], columns=["since", "bottom", "top"])
    over = alt.Tooltip("top:Q", title="over the threshold")
    bars = look.bars(frame, timedelta(hours=1), alt.ColorValue(palette.BLUE), over, height=230)
    return alt.layer(bars, look.line_at(budget, f"budget {budget:g} an hour", upright=False))


def _precision(judged: list[Precision]) -> ChartType:
    rows = [(f"{look.kind_words(p.kind)}, {p.found_by}", p.share, f"{p.useful} of {p.judged}") for p in judged[:12]]
    frame = pd.DataFrame(rows, columns=["what", "share", "text"])
    base = alt.Chart(frame, height=26 * len(frame) + 40).encode(
        y=alt.Y("what:N", sort=None, title=None, axis=alt.Axis(labelLimit=220)),
        x=alt.X("share:Q", scale=alt.Scale(domain=[0, 1.12]), axis=look.share_axis("share useful")),
        text="text:N",
    )
    return base.mark_bar(color=palette.GREEN, height=14) + base.mark_text(align="left", dx=6, fontSize=11)
