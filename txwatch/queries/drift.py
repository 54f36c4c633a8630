"""Drift reports that were kept."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from txwatch.queries.paging import DEFAULT_LIMIT, Page, Position, bounds, page_of
from txwatch.queries.rows import dicts
from txwatch.store.database import Connection

_COLUMNS = "id, computed_at, model_version, seen_from, seen_to, rows, share, drifted, features"


@dataclass(frozen=True)
class DriftedFeature:
    """How far one feature is from the traffic of the training, and how far it may be."""

    feature: str
    distance: float
    limit: float


@dataclass(frozen=True)
class DriftSummary:
    """One comparison of recent traffic with what a model was trained on. `share` of the features, 0 to 1, drifted."""

    id: int
    computed_at: datetime
    model_version: str
    seen_from: datetime
    seen_to: datetime
    rows: int
    share: float
    drifted: bool
    features: list[DriftedFeature]


def list_drift(connection: Connection, *, cursor: str | None = None, limit: int = DEFAULT_LIMIT) -> Page[DriftSummary]:
    """The reports, newest first. Raises BadCursorError."""
    rows = dicts(
        connection,
        f"SELECT {_COLUMNS} FROM drift_reports WHERE %(before)s::timestamptz IS NULL"  # noqa: S608 - a constant
        " OR (computed_at <= %(before)s AND (computed_at, lpad(id::text, 19, '0')) < (%(before)s, %(before_key)s))"
        " ORDER BY computed_at DESC, id DESC LIMIT %(limit)s",
        {"limit": limit + 1, **bounds(cursor)},
    )
    return page_of([_summary(row) for row in rows], limit, lambda row: Position(row.computed_at, f"{row.id:019d}"))


@dataclass(frozen=True)
class StoredPage:
    """The page of a report. `html` is None if it is not in the database: `DriftPages` finds it by its moment."""

    computed_at: datetime
    html: str | None


def read_drift_page(connection: Connection, report_id: int) -> StoredPage | None:
    """The page of one report, or None if there is no such report."""
    row = connection.execute("SELECT computed_at, html FROM drift_reports WHERE id = %s", [report_id]).fetchone()
    return None if row is None else StoredPage(*row)


def _summary(row: dict[str, Any]) -> DriftSummary:
    features = [DriftedFeature(f["feature"], f["distance"], f["limit"]) for f in row["features"]]
    return DriftSummary(**row | {"features": features})
