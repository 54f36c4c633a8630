"""How models score: of each version how much and how unusual, and of two versions where they agree."""

from dataclasses import dataclass
from datetime import datetime

from txwatch.queries.rows import rows_as
from txwatch.store.database import Connection
from txwatch.store.sql import statement


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


def scores_by_version(connection: Connection, since: datetime) -> list[VersionScores]:
    """What each version scored of the transactions seen since a moment, the one that scored last first."""
    return rows_as(connection, VersionScores, statement(__file__, "scores_by_version"), {"since": since})


def score_histogram(connection: Connection, since: datetime) -> list[ScoreBin]:
    """The distribution of the scores of each version, of transactions seen since a moment."""
    return rows_as(
        connection,
        ScoreBin,
        "SELECT model_version, floor(score * 100)::float8 / 100 AS score, count(*) AS count FROM transaction_scores"
        " WHERE seen_at >= %(since)s GROUP BY 1, 2 ORDER BY 1, 2",
        {"since": since},
    )


def agreement(connection: Connection, a: str, b: str, since: datetime) -> Agreement:
    """How two versions agree on the transactions seen since a moment that both have scored."""
    (found,) = rows_as(connection, Agreement, statement(__file__, "agreement"), {"a": a, "b": b, "since": since})
    return found


def hours_of_scores(connection: Connection, since: datetime) -> list[HourOfScores]:
    """Each hour's use of the alert budget, oldest first."""
    return rows_as(
        connection,
        HourOfScores,
        "SELECT date_trunc('hour', seen_at) AS since, count(*) AS scored,"
        " count(*) FILTER (WHERE score >= threshold) AS over_threshold, avg(threshold) AS threshold"
        " FROM transaction_scores WHERE seen_at >= %(since)s AND lane <> 'shadow' GROUP BY 1 ORDER BY 1",
        {"since": since},
    )
