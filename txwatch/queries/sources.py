"""The sources that are followed, one beside the other: who tells what, how soon, and what each leaves out."""

from dataclasses import dataclass
from datetime import datetime

from txwatch.queries.paging import read_rows
from txwatch.store.database import Connection, statement


@dataclass(frozen=True)
class SourceQuality:
    """One source. Counts and shares of the last hour (`_1h`) or day (`_1d`); None where there is nothing to count.

    `share_1h` is its part of what all sources told, `alone_1h` what no other told, `first_1h` what it told before the
    others; `behind_*` is how long after the first it told the rest, in ms. `completeness_1d` is the share of what was
    mined that it had told before the block; `explained_1d` the share that it left out by its own policy: below its
    least fee rate, or with more data than it relays.
    """

    source: str
    connected: bool
    text: str
    followed_since: datetime
    heard_at: datetime
    transactions_1h: int
    share_1h: float | None
    alone_1h: int
    first_1h: int
    behind_p50_ms: float | None
    behind_p99_ms: float | None
    completeness_1d: float | None
    explained_1d: float | None
    gaps_1d: int
    gap_seconds_1d: float
    recovered_1d: int


def read_sources(connection: Connection, now: datetime) -> list[SourceQuality]:
    """Every source that was followed within a day, by name."""
    return read_rows(connection, SourceQuality, statement("queries", "source_quality"), {"now": now})
