"""Transactions that only the archive has: for the API and the pages, a few questions at once and each in bounded time.

Of what the database keeps for good, such as alerts and labels, an archived transaction has all; of its life there is
what retention has left.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from threading import BoundedSemaphore
from typing import Any

from txwatch.archive.look_up import Looked, Sought, look_up, rows_of
from txwatch.archive.manifest import Archive, ArchiveError
from txwatch.archive.windows import batch_of
from txwatch.detection.reasons import Reason
from txwatch.features.contract import FEATURE_NAMES
from txwatch.places import ObjectStoreError
from txwatch.queries.alerts import read_alert, stored_reasons
from txwatch.queries.coins import read_coins
from txwatch.queries.paging import Position, page_of, read_rows
from txwatch.queries.transactions import (
    LifeEvent,
    StoredScore,
    TransactionDetail,
    TransactionSummary,
    placed_features,
)
from txwatch.store.database import Connection, statement
from txwatch.store.transactions import stored_txids
from txwatch.wire.prices import worth

AT_ONCE = 2
"""Questions to the archive at once, of one process: each may hold a row group and what it found in memory."""
SECONDS = 5.0
"""Time that one may take, from file to file."""


class ArchiveBusyError(RuntimeError):
    """As many questions as may be asked at once are being answered."""


@dataclass(frozen=True)
class ArchivedPage:
    """Transactions that only the archive has, newest first. `next` is the cursor of the page after it, or None.

    `missing` names each day that could not be looked through, and why.
    """

    items: list[TransactionSummary]
    next: str | None
    missing: list[str]


class History:
    """Asks the archive. Without one, nothing is found."""

    def __init__(self, archive: Archive | None, at_once: int = AT_ONCE, seconds: float = SECONDS) -> None:
        self.archive = archive
        self._seconds = seconds
        self._turns = BoundedSemaphore(at_once)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """A turn. Nobody waits for one: who does would hold a connection that others could use."""
        if not self._turns.acquire(blocking=False):
            raise ArchiveBusyError("the archive answers as many questions as it may at once")
        try:
            yield
        finally:
            self._turns.release()

    def page(self, connection: Connection, sought: Sought, limit: int, cursor: str | None = None) -> ArchivedPage:
        """A page of what is sought. Raises ArchiveBusyError and BadCursorError."""
        if self.archive is None:
            return ArchivedPage([], None, [])
        after = None if cursor is None else Position.decode(cursor)
        sought = sought if after is None else replace(sought, before=(after.moment, after.key))
        with self._turn():
            looked = look_up(connection, self.archive, sought, limit + 1, self._seconds)
        rows = _summaries(connection, looked)
        page = page_of(rows, limit, lambda row: Position(row.seen_at, row.txid))
        there = stored_txids(connection, [row.txid for row in page.items])
        return ArchivedPage([row for row in page.items if row.txid not in there], page.next, looked.notes)

    def transaction(self, connection: Connection, txid: str) -> tuple[TransactionDetail | None, list[str]]:
        """One of them with its features, scores and alert, or None; and the days that could not be looked through."""
        if self.archive is None:
            return None, []
        with self._turn():
            looked = look_up(connection, self.archive, Sought(txid=txid), 1, self._seconds)
            if not looked.table.num_rows:
                return None, looked.notes
            day = looked.table["seen_at"][0].as_py().astimezone(UTC).date()
            features, of_features = self._rows(connection, "features", day, txid)
            scores, of_scores = self._rows(connection, "scores", day, txid)
        return _detail(connection, looked, day, features, scores), [*of_features, *of_scores]

    def _rows(self, connection: Connection, name: str, day: date, txid: str) -> tuple[list[dict[str, Any]], list[str]]:
        try:
            return ([] if self.archive is None else rows_of(connection, self.archive, name, day, txid)), []
        except (ArchiveError, ObjectStoreError) as error:
            return [], [str(error)]


def _summaries(connection: Connection, looked: Looked) -> list[TransactionSummary]:
    names = ("txid", "seen_at", "value_sat", "fee_sat", "vsize", "input_count", "output_count", "rbf", "source")
    rows = looked.table.select(names).to_pylist()
    prices = _prices(connection, [row["seen_at"] for row in rows])
    return [
        TransactionSummary(
            **row | {"seen_at": row["seen_at"].astimezone(UTC)},
            fee_rate=None if row["fee_sat"] is None else row["fee_sat"] / row["vsize"],
            value_usd=worth(row["value_sat"], price),
            usd_price=price,
        )
        for row, price in zip(rows, prices, strict=True)
    ]


def _prices(connection: Connection, moments: Sequence[datetime]) -> list[float | None]:
    """The price that was known at each of these moments."""
    query = (
        "SELECT (SELECT usd FROM usd_price_at(seen_at)) FROM unnest(%s::timestamptz[]) WITH ORDINALITY"
        " AS given (seen_at, place) ORDER BY place"
    )
    return [price for (price,) in connection.execute(query, [list(moments)])]


def _detail(
    connection: Connection,
    looked: Looked,
    day: date,
    features: Sequence[dict[str, Any]],
    scores: Sequence[dict[str, Any]],
) -> TransactionDetail:
    (row,) = looked.table.to_pylist()
    txid, tip_height = row["txid"], row.pop("tip_height")
    spent, created = read_coins(connection, batch_of(looked.table), row.pop("inputs"), row.pop("outputs"), tip_height)
    (price,) = _prices(connection, [row["seen_at"]])
    for counted in ("input_count", "output_count"):
        del row[counted]
    confirmed = connection.execute(statement("queries", "confirmed_in"), {"txid": txid}).fetchone()
    return TransactionDetail(
        **row,
        fee_rate=None if row["fee_sat"] is None else row["fee_sat"] / row["vsize"],
        value_usd=worth(row["value_sat"], price),
        usd_price=price,
        inputs=spent,
        outputs=created,
        features=placed_features(connection, {name: features[0][name] for name in FEATURE_NAMES} if features else None),
        scores=sorted((_score(score) for score in scores), key=lambda score: score.scored_at, reverse=True),
        alert=read_alert(connection, txid),
        confirmed_in=confirmed[0] if confirmed else None,
        life=read_rows(connection, LifeEvent, statement("queries", "transaction_life"), {"txid": txid}),
        archived=day,
    )


def _score(row: dict[str, Any]) -> StoredScore:
    reasons: list[Reason] = stored_reasons(json.loads(row["reasons"]))
    names = ("model_version", "context_version", "lane", "score", "threshold", "is_anomaly", "scored_at")
    return StoredScore(reasons=reasons, **{name: row[name] for name in names})
