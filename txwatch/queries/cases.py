"""Read cases: alerts with what people did with them, as pages and as a table to take away."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from txwatch.people.changes import Change
from txwatch.queries.paging import DEFAULT_LIMIT, MAX_LIMIT, Page, read_page, read_rows
from txwatch.queries.private import NUMBER, OF_A_CHAT
from txwatch.store.database import Connection, statement

CaseState = Literal["open", "acknowledged", "closed"]


@dataclass(frozen=True)
class Case:
    """An alert, and how far people are with it. `value_sat` is the total output, None after retention; times UTC.

    `verdict` and `why` are of the last close, `notes` counts notes.
    """

    alert_key: str
    kinds: list[str]
    severity: str
    seen_at: datetime
    created_at: datetime
    value_sat: int | None
    usd_price: float | None
    reason: str | None
    """The first one of the alert."""
    state: CaseState
    assignee: str | None
    verdict: str | None
    why: str | None
    notes: int
    changed_at: datetime | None
    changed_by: str | None


@dataclass(frozen=True)
class CaseEvent:
    """What somebody did with a case, at a moment (UTC)."""

    at: datetime
    who: str
    action: str
    assignee: str | None
    verdict: str | None
    text: str | None


@dataclass(frozen=True)
class CaseDetail:
    """A case, and all that was done with it, the oldest first."""

    case: Case
    events: list[CaseEvent]


def list_cases(
    connection: Connection,
    *,
    key: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    kind: str | None = None,
    severity: str | None = None,
    state: CaseState | None = None,
    assignee: str | None = None,
    verdict: str | None = None,
    private: bool = False,
    cursor: str | None = None,
    limit: int = DEFAULT_LIMIT,
) -> Page[Case]:
    """Cases of what was seen in [since, until), newest first. Raises BadCursorError.

    Those that name a chat, and Telegram's numbers of people, are left out unless they are asked for by `private`.
    """
    filters = {"key": key, "since": since, "until": until, "kind": kind, "severity": severity}
    people = {"state": state, "assignee": assignee, "verdict": verdict, **_shown(private=private)}
    order = ("seen_at", "alert_key")
    return read_page(connection, Case, statement("queries", "list_cases"), {**filters, **people}, order, cursor, limit)


def read_case(connection: Connection, key: str, *, private: bool = False) -> CaseDetail | None:
    """The case of an alert, or None; of what is `private` as `list_cases`."""
    found = list_cases(connection, key=key, private=private).items
    if not found:
        return None
    asked = {"key": key, **_shown(private=private)}
    return CaseDetail(found[0], read_rows(connection, CaseEvent, statement("queries", "case_events"), asked))


def _shown(*, private: bool) -> dict[str, object]:
    return {"private": private, "of_a_chat": OF_A_CHAT, "number": NUMBER}


def all_cases(connection: Connection, most: int, **filters: Any) -> Iterator[Case]:
    """The newest cases of these filters, at most so many, page by page."""
    cursor: str | None = None
    while most > 0:
        page = list_cases(connection, **filters, cursor=cursor, limit=min(most, MAX_LIMIT))
        yield from page.items
        most, cursor = most - len(page.items), page.next
        if cursor is None:
            return


def list_changes(
    connection: Connection, *, area: str | None = None, cursor: str | None = None, limit: int = DEFAULT_LIMIT
) -> Page[Change]:
    """Who changed what, the newest first. Raises BadCursorError."""
    filters: Mapping[str, object] = {"area": area}
    order = ("changed_at", "id")
    return read_page(connection, Change, statement("queries", "list_changes"), filters, order, cursor, limit)
