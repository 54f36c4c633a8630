"""Where the history begins: its earliest window, for good, and the first that is a partition, which moves.

The assets by window have a partition for each five minutes from the first window on. Their number must stay bounded, so
that the first window follows the retention: every night, by whole days, as far as nothing is left. It is no record of
what was dropped: a start that went too far comes back the next night. The archive's assets are by day, and begin with
the day of the earliest window.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from txwatch.clock import EPOCH, window_start
from txwatch.errors import UserError
from txwatch.store.database import Connection, database_now, read_rows, statement
from txwatch.store.retention import confirmed_now, expiry

_DAY = timedelta(days=1)

LISTED_DAYS = 95
"""Days before today that have partitions at most, whatever the retention: what is older is there by day."""
MOST_DAYS = 102
"""The same with those that something waits for: 103 days of 288 windows, and the hours until the next night's move."""
STEP_DAYS = 7
"""Days by which a start moves in one night past what is still there while transactions do not confirm the clock: one
that is far ahead for a night costs no more, until the next night."""


@dataclass(frozen=True)
class HistoryStart:
    """The first window that is a partition, and the earliest that ever was; both by their start, UTC."""

    first_window: datetime
    earliest_window: datetime


class NoHistoryStartError(UserError):
    """No start was recorded yet."""

    def __init__(self) -> None:
        super().__init__("The database does not say when the history starts: run txwatch migrate.")


@dataclass(frozen=True)
class Kept:
    """What a start must not pass: the oldest row of a transaction or score, what is unsettled, what runs are about.

    `unsettled` is the beginning of the oldest gap that waits for recovery or of the oldest window that landed late;
    `asked_for` is the first window of the runs and backfills that have not ended. None where there is none. `confirmed`
    is the present as far as transactions confirm the clock.
    """

    oldest_row: datetime | None = None
    unsettled: datetime | None = None
    asked_for: datetime | None = None
    confirmed: datetime = EPOCH


def record_history_start(connection: Connection, wanted: datetime | None = None) -> None:
    """Record the wanted start. Without one the recorded start stays; the first is today's midnight.

    One that was recorded before does not take back a start that has moved since. One that is earlier than all before
    does, until the next move. Raises UserError for one that lies in the future.
    """
    now = database_now(connection)
    if wanted is not None:
        wanted = as_window(wanted)
        if wanted > now + _DAY:
            raise UserError(f"TXWATCH_HISTORY_START lies in the future: {wanted.isoformat()}.")
    values = {"first": wanted or _midnight(now), "wanted": wanted}
    connection.execute(statement("store", "record_history_start"), values)


def read_history_start(connection: Connection) -> HistoryStart | None:
    """The recorded start; None before `record_history_start`."""
    query = "SELECT first_window, earliest_window FROM history_start"
    return next(iter(read_rows(connection, HistoryStart, query)), None)


def next_start(now: datetime, retention_days: int, present: datetime, earliest: datetime, kept: Kept) -> datetime:
    """Where the first window belongs: at a midnight, or at the `earliest` window. All times UTC.

    Within the retention every day stays, and beyond it each that still has rows. Of what is older than LISTED_DAYS only
    what is unsettled or what runs are about stays, and of what is older than MOST_DAYS nothing.
    """
    expired, step = expiry(now, retention_days), _midnight(present) + STEP_DAYS * _DAY

    def passing_rows(days: int) -> datetime:
        return max(expiry(kept.confirmed, days), min(expiry(now, days), step))

    wanted = min(expired, step if kept.oldest_row is None else _midnight(kept.oldest_row))
    wanted = max(wanted, passing_rows(LISTED_DAYS))
    if kept.unsettled is not None:
        # A gap may have begun long before what is kept of it.
        wanted = min(wanted, max(_midnight(kept.unsettled), expired))
    if kept.asked_for is not None:
        wanted = min(wanted, _midnight(kept.asked_for))
    return max(earliest, wanted, passing_rows(MOST_DAYS))


def move_history_start(
    connection: Connection,
    now: datetime,
    retention_days: int,
    wanted: datetime | None = None,
    asked_for: datetime | None = None,
) -> tuple[datetime, datetime]:
    """Move the first window to where it belongs. Returns where it was and where it is. Safe to repeat.

    `wanted` is the start that was set, and `asked_for` the first window of runs that have not ended, if any. Raises
    NoHistoryStartError if none was set or recorded.
    """
    with connection.transaction():
        connection.execute("SELECT FROM history_start FOR UPDATE")
        recorded = read_history_start(connection)
        if recorded is None and wanted is not None:
            record_history_start(connection, wanted)
            recorded = read_history_start(connection)
        if recorded is None:
            raise NoHistoryStartError
        earliest = recorded.earliest_window if wanted is None else as_window(wanted)
        [(oldest_row, unsettled)] = connection.execute(
            statement("store", "kept_since"), {"start": _midnight(earliest)}
        ).fetchall()
        kept = Kept(oldest_row, unsettled, asked_for, confirmed_now(connection, now, retention_days))
        start = next_start(now, retention_days, recorded.first_window, earliest, kept)
        connection.execute("UPDATE history_start SET first_window = %s", [start])
    return recorded.first_window, start


def as_window(moment: datetime) -> datetime:
    """The start of the window that holds a moment, which is in UTC if it has no zone."""
    return window_start(moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC))


def _midnight(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
