"""The quality of the feed: how fast it came and was landed, what was missed, and what was refused."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from txwatch.queries.paging import DEFAULT_LIMIT, Page, read_page, read_rows
from txwatch.store.database import Connection, statement


@dataclass(frozen=True)
class Gap:
    """A stretch in which a source was not heard. `recovered` counts the transactions that came back since."""

    id: int
    started_at: datetime
    ended_at: datetime | None
    seconds: float
    cause: str
    ending: str | None
    state: str
    recovered: int
    source: str


@dataclass(frozen=True)
class FeedSpan:
    """The live traffic of the span that begins at `since`. Lags are from receipt to durable row, in ms.

    `heard` is the share of the span in which the feed was heard, 0 to 1: completeness as far as this side can know.
    """

    since: datetime
    transactions: int
    value_sat: int
    lag_p50_ms: float | None
    lag_p99_ms: float | None
    recovered: int
    heard: float


@dataclass(frozen=True)
class RefusedMessage:
    """A message that broke the protocol, and why. Its body stays in the database."""

    id: int
    received_at: datetime
    reason: str
    size: int


@dataclass(frozen=True)
class RecordedBlock:
    """A block that the feed announced.

    `completeness` is the share of its transactions, first seen since the feed is followed, that had come before the
    block; None until its contents were fetched.
    """

    hash: str
    height: int
    block_time: datetime
    seen_at: datetime
    tx_count: int
    stale: bool
    completeness: float | None


def list_gaps(
    connection: Connection,
    now: datetime,
    *,
    state: str | None = None,
    cursor: str | None = None,
    limit: int = DEFAULT_LIMIT,
) -> Page[Gap]:
    """The ledger of gaps, newest first. A gap that lasts is counted up to now. Raises BadCursorError."""
    filters = {"state": state, "now": now}
    return read_page(connection, Gap, statement("queries", "list_gaps"), filters, ("started_at", "id"), cursor, limit)


def read_feed_spans(connection: Connection, start: datetime, end: datetime, span: timedelta) -> list[FeedSpan]:
    """Each span of [start, end), oldest first, also those in which nothing came. `start` is a span's start."""
    spans = {"start": start, "end": end, "span": span}
    return read_rows(connection, FeedSpan, statement("queries", "feed_spans"), spans)


def list_refused(
    connection: Connection, *, cursor: str | None = None, limit: int = DEFAULT_LIMIT
) -> Page[RefusedMessage]:
    """Messages in quarantine, newest first. Raises BadCursorError."""
    query = (
        "SELECT id, received_at, reason, size FROM quarantined_messages"
        " WHERE %(before)s::timestamptz IS NULL OR (received_at <= %(before)s"
        " AND (received_at, lpad(id::text, 19, '0')) < (%(before)s, %(before_key)s))"
        " ORDER BY received_at DESC, id DESC LIMIT %(limit)s"
    )
    return read_page(connection, RefusedMessage, query, {}, ("received_at", "id"), cursor, limit)


def list_blocks(
    connection: Connection, *, cursor: str | None = None, limit: int = DEFAULT_LIMIT
) -> Page[RecordedBlock]:
    """Blocks that were announced, newest first. Raises BadCursorError."""
    query = (
        "SELECT hash, height, block_time, seen_at, tx_count, stale,"
        " seen_before_count::float8 / nullif(mined_count, 0) AS completeness FROM blocks"
        " WHERE %(before)s::timestamptz IS NULL OR (seen_at, hash) < (%(before)s, %(before_key)s)"
        " ORDER BY seen_at DESC, hash DESC LIMIT %(limit)s"
    )
    return read_page(connection, RecordedBlock, query, {}, ("seen_at", "hash"), cursor, limit)
