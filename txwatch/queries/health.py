"""How the system is: what each check found last, and how it changed."""

from dataclasses import dataclass
from datetime import datetime

from txwatch.queries.paging import DEFAULT_LIMIT, Page, Position, bounds, page_of
from txwatch.queries.rows import rows_as
from txwatch.store.database import Connection


@dataclass(frozen=True)
class HealthCheck:
    """What a check found. `state` is well, wrong or unknown; `text` says it in words."""

    id: int
    checked_at: datetime
    name: str
    state: str
    text: str


def latest_health(connection: Connection) -> list[HealthCheck]:
    """The newest result of each check, by name."""
    return rows_as(
        connection,
        HealthCheck,
        "SELECT DISTINCT ON (name) id, checked_at, name, state, text FROM health_checks"
        " ORDER BY name, checked_at DESC, id DESC",
    )


def list_health(
    connection: Connection,
    *,
    name: str | None = None,
    state: str | None = None,
    cursor: str | None = None,
    limit: int = DEFAULT_LIMIT,
) -> Page[HealthCheck]:
    """Results that were kept, newest first. Raises BadCursorError."""
    rows = rows_as(
        connection,
        HealthCheck,
        "SELECT id, checked_at, name, state, text FROM health_checks WHERE (%(name)s::text IS NULL OR name = %(name)s)"
        " AND (%(state)s::text IS NULL OR state = %(state)s) AND (%(before)s::timestamptz IS NULL"
        " OR (checked_at <= %(before)s AND (checked_at, lpad(id::text, 19, '0')) < (%(before)s, %(before_key)s)))"
        " ORDER BY checked_at DESC, id DESC LIMIT %(limit)s",
        {"name": name, "state": state, "limit": limit + 1, **bounds(cursor)},
    )
    return page_of(rows, limit, lambda row: Position(row.checked_at, f"{row.id:019d}"))
