"""Draw a day of training from many: each hour of the clock once, from days spread evenly over all of them.

Whole hours, because a threshold is about what is alike within an hour (`txwatch.detection.patterns`): of rows drawn one
by one a campaign would keep a member or two, and count like what happens once. Each hour of the clock, because traffic
has a course of the day. So training takes what it takes of one day, and knows the weeks.

Rows come from the archive's files and from the database alike (`txwatch.archive.reading`); of a file only the row
groups that hold the hour are read.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from txwatch.archive.datasets import FEATURES
from txwatch.archive.days import read_days, read_stored_days
from txwatch.archive.manifest import Archive, ArchiveError
from txwatch.archive.reading import day_rows
from txwatch.features.contract import FEATURE_NAMES
from txwatch.places import ObjectStoreError
from txwatch.store.database import Connection

if TYPE_CHECKING:
    import pandas as pd

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
_HOURS = DAY // HOUR
_COLUMNS = ("seen_at", "txid", *FEATURE_NAMES)


@dataclass(frozen=True)
class DrawnDay:
    """Rows drawn from many days: `seen_at`, `txid` and the features of the contract, in order of time.

    `hours` are those that were drawn, `since` is the first moment from which one could be. `left_out` names days of
    which none could be, each with the reason.
    """

    frame: "pd.DataFrame"
    hours: int
    since: datetime
    left_out: list[str]


def draw_day(connection: Connection, archive: Archive | None, until: datetime, days: int, seed: int) -> DrawnDay:
    """Draw from the `days` that end at a full hour. The same seed draws the same of the same rows.

    Holds the drawn rows and a row group in memory. An hour without rows, and every hour of a day whose file is missing
    or damaged, is drawn from another day. Fewer than 24 hours are drawn if there is no other.
    """
    import pandas as pd

    until = until.replace(minute=0, second=0, microsecond=0)
    held = _held_days(connection, until)
    since = until - days * DAY
    first = next((day for day in held if day >= since.date()), until.date())
    since = max(since, datetime(first.year, first.month, first.day, tzinfo=UTC))
    left_out = {
        day: f"{day}: no features of it are stored"
        for day in (first + n * DAY for n in range((until.date() - first).days))
        if day not in held
    }
    drawn: dict[datetime, pa.Table] = {}
    for candidates in _hours(since, until, seed):
        for start in candidates:
            if start.date() in left_out:
                continue
            try:
                tables = list(day_rows(connection, archive, FEATURES, start.date(), _COLUMNS, (start, start + HOUR)))
            except (ArchiveError, ObjectStoreError) as error:
                left_out[start.date()] = str(error)
                continue
            table = pa.concat_tables([FEATURES.columns(_COLUMNS).empty_table(), *tables])
            if any(table[name].null_count for name in FEATURE_NAMES):
                left_out[start.date()] = f"{start.date()}: its features are of an older contract"
            elif table.num_rows:
                drawn[start] = table.sort_by([("seen_at", "ascending"), ("txid", "ascending")])
                break
    hours = len(drawn)
    whole = pa.concat_tables([FEATURES.columns(_COLUMNS).empty_table(), *(drawn[start] for start in sorted(drawn))])
    # So that no more than a column is there twice.
    drawn.clear()
    frame: pd.DataFrame = whole.to_pandas(split_blocks=True, self_destruct=True)
    return DrawnDay(frame, hours, since, [left_out[day] for day in sorted(left_out)])


def _held_days(connection: Connection, until: datetime) -> list[date]:
    """The days whose features are in the database or in the archive, the oldest first."""
    archived = {one.day for one in read_days(connection, FEATURES) if one.rows}
    return sorted({*archived, *read_stored_days(connection, FEATURES, until)})


def _hours(since: datetime, until: datetime, seed: int) -> Iterator[Sequence[datetime]]:
    """For each hour of the clock the hours that it may be drawn from, in the order in which they are tried.

    The first ones are of days spread evenly over all.
    """
    random = np.random.default_rng(seed)
    of_clock: dict[int, list[datetime]] = {}
    for n in range((until - since) // HOUR):
        start = since + n * HOUR
        of_clock.setdefault(start.hour, []).append(start)
    spread = random.permutation(_HOURS)
    for place, (_, starts) in zip(spread, sorted(of_clock.items()), strict=False):
        first = starts[int((place + 0.5) * len(starts) / _HOURS)]
        yield [first, *(start for start in random.permutation(np.array(starts, object)) if start != first)]
