"""What was found unusual, by the forest or by a detector; whales among it with the direction of their flow."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from txwatch.queries.explanations import Explanation, explanations
from txwatch.queries.flows import WORDS, Flow
from txwatch.queries.paging import DEFAULT_LIMIT, Page, Position, bounds, page_of
from txwatch.queries.rows import dicts, rows_as
from txwatch.store.database import Connection
from txwatch.store.sql import statement

WHALE = "whale"


@dataclass(frozen=True)
class Anomaly:
    """A transaction with the first score that found it unusual. Amounts in satoshi, the fee rate in sat/vB."""

    txid: str
    seen_at: datetime
    score: float
    threshold: float
    kinds: list[str]
    reasons: list[Explanation]
    model_version: str
    lane: str
    scored_at: datetime
    value_sat: int
    fee_sat: int | None
    fee_rate: float | None


@dataclass(frozen=True)
class WhaleMove:
    """A large value that likely changed hands. Amounts in satoshi; `flow` says between whom, as far as it is known."""

    txid: str
    seen_at: datetime
    moved_sat: int
    value_sat: int
    fee_sat: int | None
    input_count: int
    output_count: int
    flow: Flow
    senders: list[str]
    receivers: list[str]
    reasons: list[Explanation]


@dataclass(frozen=True)
class AnomalyCount:
    """Transactions of one kind that were found unusual, in the span that begins at `since`."""

    since: datetime
    kind: str
    count: int


def list_anomalies(
    connection: Connection,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    kind: str | None = None,
    min_score: float = 0.0,
    cursor: str | None = None,
    limit: int = DEFAULT_LIMIT,
) -> Page[Anomaly]:
    """Unusual transactions seen in [since, until), newest first; of one kind of reason. Raises BadCursorError.

    A transaction that only the forest found, without a single feature that stands out, has the kind `forest`.
    """
    rows = dicts(
        connection,
        statement(__file__, "list_anomalies"),
        {
            "since": since,
            "until": until,
            "kind": kind,
            "min_score": min_score,
            "min_value": 0,
            "limit": limit + 1,
            **bounds(cursor),
        },
    )
    return page_of([_anomaly(row) for row in rows], limit, lambda row: Position(row.seen_at, row.txid))


def list_whales(
    connection: Connection,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    min_moved_sat: int = 0,
    cursor: str | None = None,
    limit: int = DEFAULT_LIMIT,
) -> Page[WhaleMove]:
    """Whale movements seen in [since, until) of at least so many satoshi, newest first. Raises BadCursorError."""
    rows = dicts(
        connection,
        statement(__file__, "list_anomalies"),
        {
            "since": since,
            "until": until,
            "kind": WHALE,
            "min_score": 0.0,
            "min_value": min_moved_sat,
            "limit": limit + 1,
            **bounds(cursor),
        },
    )
    return page_of([_whale(row) for row in rows], limit, lambda row: Position(row.seen_at, row.txid))


def count_anomalies(connection: Connection, start: datetime, end: datetime, span: timedelta) -> list[AnomalyCount]:
    """How many unusual transactions of each kind were seen in each span of [start, end), oldest first."""
    return rows_as(
        connection, AnomalyCount, statement(__file__, "count_anomalies"), {"start": start, "end": end, "span": span}
    )


def _anomaly(row: dict[str, Any]) -> Anomaly:
    reasons = explanations(row["reasons"])
    return Anomaly(
        **{name: row[name] for name in Anomaly.__dataclass_fields__ if name not in {"kinds", "reasons"}},
        kinds=_kinds(reasons),
        reasons=reasons,
    )


def _whale(row: dict[str, Any]) -> WhaleMove:
    reasons = explanations(row["reasons"])
    moved = next((r.value for r in reasons if r.kind == WHALE and r.value is not None), row["value_sat"])
    senders, receivers = ([c["addr"] for c in row[side] if c["addr"]] for side in ("inputs", "outputs"))
    return WhaleMove(
        txid=row["txid"],
        seen_at=row["seen_at"],
        moved_sat=int(moved),
        value_sat=row["value_sat"],
        fee_sat=row["fee_sat"],
        input_count=row["input_count"],
        output_count=row["output_count"],
        flow=WORDS[row["flow"]],
        senders=list(dict.fromkeys(senders))[:5],
        receivers=list(dict.fromkeys(a for a in receivers if a not in set(senders)))[:5],
        reasons=reasons,
    )


def _kinds(reasons: list[Explanation]) -> list[str]:
    return list(dict.fromkeys(reason.kind for reason in reasons)) or ["forest"]
