"""Read how models score and where two agree, and the drift reports."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from txwatch.detection.drift import FeatureDrift
from txwatch.queries.paging import DEFAULT_LIMIT, Page, read_page, read_rows
from txwatch.store.database import Connection, statement


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
    features: list[FeatureDrift]


def list_drift(connection: Connection, *, cursor: str | None = None, limit: int = DEFAULT_LIMIT) -> Page[DriftSummary]:
    """The reports, newest first. Raises BadCursorError."""
    query = (
        "SELECT id, computed_at, model_version, seen_from, seen_to, rows, share, drifted, features FROM drift_reports"
        " WHERE %(before)s::timestamptz IS NULL OR (computed_at <= %(before)s"
        " AND (computed_at, lpad(id::text, 19, '0')) < (%(before)s, %(before_key)s))"
        " ORDER BY computed_at DESC, id DESC LIMIT %(limit)s"
    )
    return read_page(connection, _summary, query, {}, ("computed_at", "id"), cursor, limit)


def _summary(features: object, **row: Any) -> DriftSummary:
    return DriftSummary(features=msgspec.convert(features, list[FeatureDrift]), **row)


@dataclass(frozen=True)
class StoredPage:
    """The page of a report. `html` is None if it is not in the database: `DriftPages` finds it by its moment."""

    computed_at: datetime
    html: str | None


def read_drift_page(connection: Connection, report_id: int) -> StoredPage | None:
    """The page of one report, or None if there is no such report."""
    row = connection.execute("SELECT computed_at, html FROM drift_reports WHERE id = %s", [report_id]).fetchone()
    return None if row is None else StoredPage(*row)


@dataclass(frozen=True)
class VersionScores:
    """The scores of one model version in a span. `unusual` counts those found unusual, by detectors too."""

    model_version: str
    shadow: bool
    scored: int
    unusual: int
    threshold: float
    score_p50: float
    score_p99: float
    first_scored_at: datetime
    last_scored_at: datetime


@dataclass(frozen=True)
class ScoreBin:
    """How many scores of a version lie in [score, score + 0.01)."""

    model_version: str
    score: float
    count: int


@dataclass(frozen=True)
class Agreement:
    """Two versions on the transactions that both scored. `unusual_*` counts what reached each one's threshold."""

    transactions: int
    unusual_a: int
    unusual_b: int
    unusual_both: int
    correlation: float | None
    """Pearson's, of the scores."""


@dataclass(frozen=True)
class HourOfScores:
    """What the champion did in one hour: how many scores reached the threshold, which follows from the budget."""

    since: datetime
    scored: int
    over_threshold: int
    threshold: float


def scores_by_version(connection: Connection, since: datetime, until: datetime | None = None) -> list[VersionScores]:
    """What each version scored of the transactions seen in [since, until), the one that scored last first."""
    seen = {"since": since, "until": until}
    return read_rows(connection, VersionScores, statement("queries", "scores_by_version"), seen)


def score_histogram(connection: Connection, since: datetime, until: datetime) -> list[ScoreBin]:
    """The distribution of the scores of each version, of transactions seen in [since, until)."""
    return read_rows(
        connection,
        ScoreBin,
        "SELECT model_version, floor(score * 100)::float8 / 100 AS score, count(*) AS count FROM transaction_scores"
        " WHERE seen_at >= %(since)s AND seen_at < %(until)s GROUP BY 1, 2 ORDER BY 1, 2",
        {"since": since, "until": until},
    )


def agreement(connection: Connection, a: str, b: str, since: datetime, until: datetime | None = None) -> Agreement:
    """How two versions agree on the transactions seen in [since, until) that both have scored."""
    given = {"a": a, "b": b, "since": since, "until": until}
    (found,) = read_rows(connection, Agreement, statement("queries", "agreement"), given)
    return found


def hours_of_scores(connection: Connection, since: datetime, until: datetime) -> list[HourOfScores]:
    """Each hour's use of the alert budget by transactions seen in [since, until), oldest first."""
    return read_rows(
        connection,
        HourOfScores,
        "SELECT date_trunc('hour', seen_at) AS since, count(*) AS scored,"
        " count(*) FILTER (WHERE score >= threshold) AS over_threshold, avg(threshold) AS threshold"
        " FROM transaction_scores WHERE seen_at >= %(since)s AND seen_at < %(until)s AND lane <> 'shadow'"
        " AND NOT EXISTS"
        " (SELECT FROM campaign_transactions AS joined WHERE joined.txid = transaction_scores.txid"
        " AND alert_key <> joined.txid) GROUP BY 1 ORDER BY 1",
        {"since": since, "until": until},
    )
