"""Drift reports in Postgres, so that the API, the dashboard and the metrics can show them wherever they run."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from txwatch.store.database import Connection
from txwatch.store.drift_pages import KEEP_PAGES_FOR

KEEP_FOR = timedelta(days=7)
"""A page has some megabytes, of which Postgres keeps a quarter. Reports without one stay as long as their pages."""


def record_drift_report(
    connection: Connection,
    *,
    computed_at: datetime,
    model_version: str,
    seen_from: datetime,
    seen_to: datetime,
    rows: int,
    share: float,
    drifted: bool,
    features: Sequence[Any],
    html: str | None = None,
) -> int:
    """Keep a report, drop those that are too old, and return the new one's id.

    `features` have `feature`, `distance` and `limit`, the furthest beyond its limit first. `html` is one whole page,
    or None while it is not drawn, and where all can read it from S3.
    """
    connection.execute(
        "DELETE FROM drift_reports WHERE computed_at < CASE WHEN html IS NULL THEN %s ELSE %s END",
        [computed_at - KEEP_PAGES_FOR, computed_at - KEEP_FOR],
    )
    row = connection.execute(
        "INSERT INTO drift_reports"
        " (computed_at, model_version, seen_from, seen_to, rows, share, drifted, features, html)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s) RETURNING id",
        [
            computed_at,
            model_version,
            seen_from,
            seen_to,
            rows,
            share,
            drifted,
            msgspec.json.encode(
                [{"feature": f.feature, "distance": f.distance, "limit": f.limit} for f in features]
            ).decode(),
            html,
        ],
    ).fetchone()
    return int(row[0]) if row else 0


def record_drift_page(connection: Connection, report_id: int, html: str) -> None:
    """Keep the page of a report whose figures are kept."""
    connection.execute("UPDATE drift_reports SET html = %s WHERE id = %s", [html, report_id])
