"""How pages look: amounts and times, tiles and tables, the theme of charts, and the notice above every page."""

import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from html import escape

import altair as alt
import pandas as pd
import streamlit as st
from altair.typing import ChartType

from txwatch.alerts.alert import kind_named
from txwatch.clock import utc_now
from txwatch.dashboard import palette
from txwatch.dashboard.palette import SEVERITY
from txwatch.dashboard.span import address
from txwatch.detection.reasons import dollars
from txwatch.foreign import clean
from txwatch.labels.label import UNKNOWN
from txwatch.queries.status import Overview
from txwatch.wire.messages import SAT_PER_BTC
from txwatch.wire.prices import worth

STALE_AFTER = 30.0
"""Seconds without a commit; a working system commits four times a second."""


_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")
"""Any of ASCII may have a meaning in Markdown, and loses it behind a backslash."""


def as_written(text: str) -> str:
    """Text of others for what shows Markdown: without pictures, which ask other servers, and links in disguise."""
    return _PUNCTUATION.sub(r"\\\1", clean(text))


def choose(label: str, choices: Iterable[str], default: str) -> str:
    """Let the visitor choose."""
    return st.segmented_control(label, list(choices), default=default, label_visibility="collapsed") or default


def freshness(overview: Overview, *, refreshes: bool = True) -> None:
    """Say when the data is stale, and what to do, or else of when it is, and whether the page `refreshes` by itself."""
    lag = overview.lag_seconds
    if overview.lease is None:
        st.warning("No worker has followed the feed yet. `make demo` or `make run` starts one.")
    elif lag is None or lag > STALE_AFTER or not overview.is_followed:
        since = overview.lease.committed_through or overview.lease.heartbeat_at
        behind = span((overview.at - since).total_seconds())
        st.warning(
            f"This data is stale: nothing came in for {behind}, since {clock(since)} UTC."
            f" The worker was last heard at {clock(overview.lease.heartbeat_at)} UTC."
        )
    else:
        after = "Refreshes by itself." if refreshes else "Does not refresh: the time shown ends at a fixed moment."
        st.caption(f"As of {clock(overview.at)} UTC. {after}")


@alt.theme.register("txwatch", enable=True)
def theme() -> alt.theme.ThemeConfig:
    """Few lines and small labels. Colours of texts and grounds are added in the browser, by the theme shown there."""
    return {
        "config": {
            "background": "transparent",
            "view": {"stroke": None},
            "axis": {
                "titleFontWeight": "normal",
                "titleFontSize": 11,
                "labelFontSize": 11,
                "gridOpacity": 0.6,
                "domain": False,
                "ticks": False,
                "labelPadding": 6,
                "tickCount": 5,
            },
            "axisX": {"grid": False, "labelFlush": True, "labelOverlap": "greedy", "titlePadding": 4},
            "legend": {
                "orient": "top",
                "title": None,
                "labelFontSize": 11,
                "symbolType": "square",
                "symbolSize": 80,
                # A phone has no room for more.
                "columns": 2,
            },
        }
    }


def amount(satoshi: float | None, usd_price: float | None = None) -> str:
    """An amount: BTC from 0.001 BTC on, satoshi below, and in USD by the price of a bitcoin; a dash for unknown."""
    if satoshi is None:
        return "–"
    if (usd := worth(satoshi, usd_price)) is not None:
        return f"{amount(satoshi)} · {dollars(usd)}"
    if abs(satoshi) < SAT_PER_BTC / 1000:
        return f"{satoshi:,.0f} sat"
    return f"{satoshi / SAT_PER_BTC:,.2f} BTC" if abs(satoshi) >= SAT_PER_BTC else f"{satoshi / SAT_PER_BTC:.4f} BTC"


def count(number: float) -> str:
    """A count with thousands apart."""
    return f"{number:,.0f}"


def share(part: float | None) -> str:
    """A share in percent, a dash for unknown."""
    return "–" if part is None else f"{part:.2%}"


def clock(moment: datetime) -> str:
    """The time of day, UTC, behind the day unless that is today: a page may show a week."""
    return f"{moment:%H:%M:%S}" if moment.date() == utc_now().date() else f"{moment:%d %b %H:%M:%S}"


def span(seconds: float) -> str:
    """A length of time in one unit."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 172_800 else f"{seconds / 86_400:.0f} days"


def short(txid: str) -> str:
    """The beginning of a txid, enough to tell it from others."""
    return f"{txid[:10]}…" if len(txid) > 20 else txid


def tiles(*cells: tuple[str, str, str]) -> str:
    """Figures side by side, as many as fit: (name, value, note). All of it is text, nothing is markup."""
    inner = "".join(
        f'<div class="tile"><div class="name">{escape(name)}</div><div class="value">{escape(value)}</div>'
        f'<div class="note">{escape(note)}</div></div>'
        for name, value, note in cells
    )
    return f'<div class="tiles">{inner}</div>'


def draw_tiles(*cells: tuple[str, str, str]) -> None:
    """Show figures side by side."""
    st.html(tiles(*cells))


def chip(text: str, colour: str | None = None) -> str:
    """A word on a colour."""
    if colour is None:
        return f'<span class="chip plain">{escape(text)}</span>'
    return f'<span class="chip" style="background:{colour}">{escape(text)}</span>'


def flow_words(flow: str) -> str:
    """Between whom a whale moved, as far as it is known."""
    return "unknown parties" if flow == UNKNOWN else flow


def kind_words(kind: str) -> str:
    """A kind as messages name it."""
    return kind_named(kind).title.lower()


def kind_chip(kind: str, severity: str | None = None) -> str:
    """A kind on the colour of a severity."""
    return chip(kind_words(kind), None if severity is None else SEVERITY[severity])


_OTHER = "other kinds"
_COLOURS = {
    kind_words("fee_accident"): SEVERITY["critical"],
    kind_words("whale"): palette.ACCENT,
    kind_words("forest"): palette.BLUE,
    kind_words("dormant_round_move"): palette.VIOLET,
    kind_words("dust_storm"): palette.OCHRE,
    _OTHER: palette.GREEN,
}
"""Of kinds in charts, by their words: each has the same one, whatever else is shown. All that are rare share one."""


def kind_drawn(words: str) -> str:
    """What stands for a kind in a chart: its words, or those of all that there is little of."""
    return words if words in _COLOURS else _OTHER


def kind_colours(drawn: Iterable[str]) -> alt.Scale:
    """The colours of the kinds that are drawn, in one order."""
    domain = [name for name in _COLOURS if name in set(drawn)]
    return alt.Scale(domain=domain, range=[_COLOURS[name] for name in domain])


def alike(transactions: int) -> list[str]:
    """How many transactions a campaign has, if it has more than its first."""
    return [chip(f"{count(transactions)} alike")] if transactions > 1 else []


def link(txid: str) -> str:
    """A txid that leads to its page. Keys of system alerts lead nowhere."""
    if len(txid) != 64:
        return ""
    return (
        f'<a class="mono" href="{escape(address("transaction", txid=txid))}" target="_self">{escape(short(txid))}</a>'
    )


def case_link(key: str) -> str:
    """An alert's key that leads to its case."""
    return f'<a class="mono" href="{escape(address("cases", alert=key))}" target="_self">{escape(key[:16])}</a>'


def address_link(whole: str, shown: str | None = None) -> str:
    """An address that leads to what is known of it."""
    return (
        f'<a class="mono" href="{escape(address("search", q=whole))}" target="_self" title="{escape(whole)}"'
        f' style="overflow-wrap:anywhere">{escape(shown or whole)}</a>'
    )


def item(head: list[str], text: str) -> str:
    """One entry of a list: `head` are pieces of markup, `text` is text."""
    parts = " ".join(f"<span>{part}</span>" for part in head if part)
    return f'<div class="item"><div class="head">{parts}</div><div class="text">{escape(text)}</div></div>'


def empty(text: str) -> str:
    """Says why there is nothing to show."""
    return f'<div class="empty">{escape(text)}</div>'


def table(columns: list[str], rows: list[list[str]], numbers: Iterable[int] = (), otherwise: str = "") -> str:
    """A small table of texts, or `otherwise` without rows. `numbers` are the columns set to the right."""
    if not rows:
        return empty(otherwise)
    kind = ["number" if i in numbers else "" for i in range(len(columns))]
    head = "".join(f'<th class="{k}">{escape(c)}</th>' for k, c in zip(kind, columns, strict=True))
    body = "".join(
        "<tr>"
        + "".join(
            f'<td class="{k}" data-column="{escape(c)}">{escape(cell)}</td>'
            for k, c, cell in zip(kind, columns, row, strict=True)
        )
        + "</tr>"
        for row in rows
    )
    return f'<div class="scroll" tabindex="0"><table class="plain"><tr class="columns">{head}</tr>{body}</table></div>'


def utc_axis(since: pd.Series) -> alt.X:
    """A time axis in UTC over the column `since`, whose values these are; with the day where it is longer than one."""
    form = "%d %b %H:%M" if len(since) and since.max() - since.min() > timedelta(days=1) else "%H:%M"
    return alt.X("since:T", scale=alt.Scale(type="utc"), axis=alt.Axis(title="UTC", format=form))


_UNITS = {timedelta(minutes=1): "min", timedelta(hours=1): "h"}
"""Of rates: nobody counts by 60 s."""


def bars(
    frame: pd.DataFrame,
    width: timedelta,
    colour: alt.Color | alt.ColorValue,
    *tooltip: str | alt.Tooltip,
    height: int = 230,
) -> ChartType:
    """Bars of transactions, from the column `bottom` to `top`, over the spans of this width that begin at `since`."""
    frame = frame.assign(until=frame["since"] + 0.86 * width, at=frame["since"].map(at))
    return (
        alt.Chart(frame, height=height)
        .mark_rect()
        .encode(
            x=utc_axis(frame["since"]),
            x2="until:T",
            y=alt.Y("bottom:Q", title=f"transactions / {_UNITS.get(width) or span(width.total_seconds())}"),
            y2="top:Q",
            color=colour,
            tooltip=["at:N", *tooltip],
        )
    )


def line_at(value: float, name: str = "", *, upright: bool) -> ChartType:
    """A dashed line at a value, with its name as the tooltip."""
    rule = alt.Chart(pd.DataFrame({"at": [value]})).mark_rule(strokeDash=[4, 3], color=SEVERITY["critical"])
    rule = rule.encode(x="at:Q") if upright else rule.encode(y="at:Q")
    return rule.encode(tooltip=alt.value(name)) if name else rule


def at(moment: datetime) -> str:
    """Day and time, UTC. A tooltip would show a time in the reader's zone."""
    return f"{moment:%d %b %H:%M} UTC"


def log_axis(title: str, least: int = 0) -> alt.Axis:
    """An axis of a logarithmic scale with one line for each power of ten, from this one on."""
    # A thousandth would read 1m by the format of thousands.
    label = "datum.value < 1 ? format(datum.value, '~g') : format(datum.value, '~s')"
    return alt.Axis(title=title, values=[10.0**n for n in range(least, 9)], labelExpr=label)


def share_axis(title: str) -> alt.Axis:
    """An axis of shares, 0 to 1, in percent."""
    return alt.Axis(title=title, format="%", values=[0, 0.5, 1])


def draw(chart: ChartType, says: str) -> None:
    """Show a chart. `says` is what it shows, for those who do not see it."""
    st.altair_chart(chart, alt=says)
