"""The traffic of a span: its rate and fees over time, some of its transactions, and its campaigns."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from txwatch.queries.paging import read_rows
from txwatch.store.database import Connection, statement

PARTS = 100
"""Equal parts of a span, of each of which the first transactions are taken: so the cost is the same for every span."""
OF_EACH_PART = 20
MOST_UNUSUAL = 300
"""Unusual transactions of a span that are shown, the newest first."""


@dataclass(frozen=True)
class TrafficSpan:
    """What was seen in the span that begins at `since`. Fee rates in sat/vB, None where nothing came."""

    since: datetime
    transactions: int
    value_sat: int
    fee_rate_p10: float | None
    fee_rate_p50: float | None
    fee_rate_p90: float | None


@dataclass(frozen=True)
class TrafficPoint:
    """One transaction: total output in satoshi, fee rate in sat/vB (None if unknown), and of which kinds it is.

    Without kinds it is ordinary. Unusual as a whole is the kind `forest`.
    """

    txid: str
    seen_at: datetime
    value_sat: int
    fee_rate: float | None
    kinds: list[str]


@dataclass(frozen=True)
class Campaign:
    """Transactions that are alike and the one alert about them. `value_sat` is their output in all, in satoshi."""

    alert_key: str
    kinds: list[str]
    severity: str
    transactions: int
    first_seen_at: datetime
    last_seen_at: datetime
    value_sat: int | None
    usd_price: float | None


def read_traffic(connection: Connection, start: datetime, end: datetime, span: timedelta) -> list[TrafficSpan]:
    """Each span of [start, end) in which something was seen, oldest first. Spans begin at multiples of their width."""
    spans = {"start": start, "end": end, "span": span}
    return read_rows(connection, TrafficSpan, statement("queries", "traffic"), spans)


def sample_traffic(connection: Connection, start: datetime, end: datetime) -> list[TrafficPoint]:
    """Unusual transactions seen in [start, end), at most MOST_UNUSUAL, and some of the others.

    Of the others the first OF_EACH_PART of each of PARTS equal parts. Parts begin at multiples of their width, so that
    one who looks again a moment later sees the same ones. Where only the end of the span holds anything, as in a
    system's first days, they are halved until at least half of PARTS do.
    """
    row = connection.execute(
        "SELECT min(seen_at) FROM transactions WHERE seen_at >= %s AND seen_at < %s", [start, end]
    ).fetchone()
    first: datetime = start if row is None or row[0] is None else row[0]
    part = max((end - start) / PARTS, timedelta(milliseconds=1))
    while part > timedelta(milliseconds=2) and part * PARTS / 2 >= end - first:
        part /= 2
    given = {"start": start, "end": end, "first": first, "part": part, "of_each": OF_EACH_PART, "unusual": MOST_UNUSUAL}
    points = read_rows(connection, TrafficPoint, statement("queries", "sample_traffic"), given)
    # An unusual one may be among the others too; it comes first.
    return list({point.txid: point for point in reversed(points)}.values())


def list_campaigns(connection: Connection, start: datetime, end: datetime, limit: int) -> list[Campaign]:
    """Campaigns of two transactions and more that had one in [start, end), the largest first."""
    given = {"start": start, "end": end, "limit": limit}
    return read_rows(connection, Campaign, statement("queries", "list_campaigns"), given)
