"""The time that all pages show. It is in the address, so that a link to a page shows what its sender saw."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import streamlit as st

from txwatch.clock import WINDOW, utc_now

MINUTE = timedelta(minutes=1)


@dataclass(frozen=True)
class _Choice:
    """A length of time in words, how wide the bars of a chart over it are, and how often it is drawn again."""

    words: str
    length: timedelta
    width: timedelta
    again: timedelta


_CHOICES = {
    "1h": _Choice("hour", 60 * MINUTE, MINUTE, timedelta(seconds=5)),
    "6h": _Choice("6 hours", 360 * MINUTE, WINDOW, timedelta(seconds=20)),
    "24h": _Choice("24 hours", timedelta(days=1), 3 * WINDOW, MINUTE),
    "7d": _Choice("7 days", timedelta(days=7), 24 * WINDOW, 5 * MINUTE),
}
_DEFAULT = "1h"


@dataclass(frozen=True)
class Span:
    """The time shown, [start, end) in UTC. `width` is that of a bar over it, `again` when to draw it again.

    It follows the clock, or ends at a moment that somebody chose: then it is never drawn again.
    """

    start: datetime
    end: datetime
    width: timedelta
    words: str
    again: timedelta | None

    @property
    def hours(self) -> float:
        """Its length."""
        return (self.end - self.start) / timedelta(hours=1)


def choose_span() -> None:
    """Let the visitor choose, for all pages."""
    st.segmented_control(
        "Time shown", list(_CHOICES), default=_DEFAULT, key="span", bind="query-params", label_visibility="collapsed"
    )
    until = st.query_params.get("until")
    with st.popover(f"until {until.replace('T', ' ')}" if until else "until now"):
        st.datetime_input(
            "Until, UTC", value=None, key="until", bind="query-params", step=MINUTE, help="Empty: until now."
        )


def shown() -> Span:
    """The span that was chosen, as of now."""
    choice = _CHOICES[st.session_state.get("span") or _DEFAULT]
    until: datetime | None = st.session_state.get("until")
    if until is None:
        end, words, again = utc_now(), f"in the last {choice.words}", choice.again
    else:
        end = until.replace(tzinfo=UTC)
        words, again = f"in the {choice.words} until {end:%d %b %H:%M} UTC", None
    return Span(end - choice.length, end, choice.width, words, again)


def address(page: str, **query: str) -> str:
    """The address of a page with this query, which shows the same time as this one."""
    kept = {name: value for name in ("span", "until") if (value := st.query_params.get(name))}
    return f"/{page}?{urlencode(query | kept)}"
