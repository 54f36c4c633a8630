"""Drift: whether traffic is still like that which the champion was trained on."""

import altair as alt
import pandas as pd
import streamlit as st
from altair.typing import ChartType

from txwatch.dashboard import look, palette
from txwatch.dashboard.data import ask, drift_page
from txwatch.places import ObjectStoreError
from txwatch.queries.models import DriftSummary, list_drift, read_drift_page


def page() -> None:
    """The reports, the newest first."""
    st.title("Drift")
    reports = ask(list_drift, limit=168).items
    if not reports:
        st.html(look.empty("No drift report yet. One is made every hour once there is a champion."))
        return
    newest = reports[0]
    look.draw_tiles(
        ("Newest report", "drift" if newest.drifted else "no drift", f"{newest.computed_at:%d %b %H:%M} UTC"),
        ("Features drifted", f"{newest.share:.0%}", f"of those watched, {len(newest.features)} shown"),
        ("Compared", look.count(newest.rows), "recent transactions"),
        ("Against", f"version {newest.model_version}", "what it was trained on"),
    )
    if len(reports) > 1:
        st.header("Share of features that have drifted")
        look.draw(_history(reports), "The share of features that have drifted, over time.")
    chosen = st.selectbox("Report", reports, format_func=_name)
    if chosen.features:
        look.draw(_features(chosen), "How far each feature is from the training traffic, and its limit.")
    st.header("The report")
    page = ask(read_drift_page, chosen.id)
    try:
        html = page and (page.html or drift_page(page.computed_at))
    except ObjectStoreError as error:
        st.error(f"The page cannot be read just now. {look.as_written(str(error))}")
        return
    if html:
        st.iframe(html, height=900)
    else:
        st.html(look.empty("The page of this report is not kept any more."))


def _name(report: DriftSummary) -> str:
    return f"{report.computed_at:%d %b %H:%M} UTC, {'drift' if report.drifted else 'no drift'}"


def _history(reports: list[DriftSummary]) -> ChartType:
    frame = pd.DataFrame(
        [(r.computed_at, look.at(r.computed_at), r.share) for r in reports], columns=["since", "at", "share"]
    )
    return (
        alt.Chart(frame, height=150)
        .mark_line(color=palette.BLUE, interpolate="step-after", point={"color": palette.BLUE, "size": 40})
        .encode(
            x=look.utc_axis(frame["since"]),
            y=alt.Y("share:Q", scale=alt.Scale(domain=[0, 1]), axis=look.share_axis("share")),
            tooltip=["at:N", alt.Tooltip("share:Q", format=".0%")],
        )
    )


def _features(report: DriftSummary) -> ChartType:
    states = ["within its limit", "drifted"]
    frame = pd.DataFrame(
        [(f.feature.replace("_", " "), f.distance, f.limit, states[f.drifted]) for f in report.features[:16]],
        columns=["feature", "distance", "limit", "state"],
    )
    y = alt.Y("feature:N", sort=None, title=None, axis=alt.Axis(labelLimit=200))
    bars = (
        alt.Chart(frame, height=26 * len(frame) + 90)
        .mark_bar(height=13)
        .encode(
            x=alt.X("distance:Q", title="distance from the training traffic, 0 to 1"),
            y=y,
            color=alt.Color("state:N", scale=alt.Scale(domain=states, range=[palette.BLUE, palette.ACCENT])),
        )
    )
    limits = alt.Chart(frame).mark_tick(color=palette.TEXT, thickness=2, size=18).encode(x="limit:Q", y=y)
    return bars + limits
