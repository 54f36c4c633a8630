"""The time that all pages show. It is in the address, so that a link to a page shows what its sender saw."""

from contextlib import suppress
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
_LENGTH, _UNTIL = "span", "until"
"""Keys of the visit's state: the name of the choice, and the moment in UTC, without a zone, or None."""

_FIRST, _LAST = datetime.fromisoformat("2009-01-03"), datetime.fromisoformat("2100-01-01")
"""Of moments that can be shown: Bitcoin's first day, and long before a calendar's last one."""


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


def take_span() -> None:
    """Take the time that the address names, when a visit begins. It lasts on all pages, and in their addresses."""
    state = st.session_state
    if _LENGTH not in state:
        asked = st.query_params.get("span", _DEFAULT)
        state[_LENGTH] = asked if asked in _CHOICES else _DEFAULT
        state[_UNTIL] = _moment(st.query_params.get("until"))
    # The menu leads to addresses without it.
    kept = _kept()
    for name in ("span", "until"):
        if name in kept:
            st.query_params[name] = kept[name]
        elif name in st.query_params:
            del st.query_params[name]


def choose_span() -> None:
    """Let the visitor choose."""
    state = st.session_state
    st.segmented_control(
        "Time shown",
        list(_CHOICES),
        default=state[_LENGTH],
        key="span_choice",
        required=True,
        label_visibility="collapsed",
        on_change=lambda: state.update({_LENGTH: state["span_choice"]}),
    )
    until: datetime | None = state[_UNTIL]
    with st.popover("until now" if until is None else f"until {until:%d %b %H:%M}"):
        st.datetime_input(
            "Until, UTC",
            value=until,
            key="until_choice",
            step=MINUTE,
            help="Empty: until now.",
            on_change=lambda: state.update({_UNTIL: state["until_choice"]}),
        )


def shown() -> Span:
    """The span that was chosen, as of now."""
    choice = _CHOICES[st.session_state.get(_LENGTH, _DEFAULT)]
    until: datetime | None = st.session_state.get(_UNTIL)
    if until is None:
        end, words, again = utc_now(), f"in the last {choice.words}", choice.again
    else:
        end = until.replace(tzinfo=UTC)
        words, again = f"in the {choice.words} until {end:%d %b %H:%M} UTC", None
    return Span(end - choice.length, end, choice.width, words, again)


def address(page: str, **query: str) -> str:
    """The address of a page with this query, which shows the same time as this one."""
    return f"/{page}?{urlencode(query | _kept(), errors='replace')}"


def _kept() -> dict[str, str]:
    """What an address says of the time, as far as it is not the last hour."""
    length, until = st.session_state.get(_LENGTH, _DEFAULT), st.session_state.get(_UNTIL)
    kept = {} if length == _DEFAULT else {"span": length}
    return kept if until is None else kept | {"until": f"{until:%Y-%m-%dT%H:%M}"}


def _moment(text: str | None) -> datetime | None:
    """A moment of an address, in UTC; None for any other text, and for what pages cannot count from."""
    with suppress(ValueError, OverflowError):
        moment = datetime.fromisoformat(text or "")
        moment = moment if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)
        return moment if _FIRST <= moment < _LAST else None
    return None
