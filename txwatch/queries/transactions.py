"""Transactions as they were landed, and everything that is known of one of them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from psycopg import sql
from psycopg.rows import dict_row

from txwatch.detection.reasons import Reason
from txwatch.features.batch import TransactionBatch
from txwatch.features.contract import FEATURE_NAMES, FEATURES
from txwatch.features.live import features_of
from txwatch.features.store import read_named_features
from txwatch.queries.alerts import AlertDetail, read_alert, stored_reasons
from txwatch.queries.coins import Coin, read_coins
from txwatch.queries.paging import DEFAULT_LIMIT, Page, read_page, read_rows
from txwatch.store.database import Connection, statement
from txwatch.store.transactions import read_transaction
from txwatch.wire.prices import worth

RECENT_ROWS = 5_000
"""The newest transactions, among which percentiles are counted."""


@dataclass(frozen=True)
class TransactionSummary:
    """One transaction. Satoshi, vB and sat/vB; the fee is None where a spent output is unknown."""

    txid: str
    seen_at: datetime
    value_sat: int
    fee_sat: int | None
    fee_rate: float | None
    vsize: int
    input_count: int
    output_count: int
    rbf: bool
    source: str
    value_usd: float | None
    usd_price: float | None
    """Of a bitcoin, known when it was seen."""


@dataclass(frozen=True)
class LifeEvent:
    """A moment of a transaction's life: seen, replaced, removed, confirmed or unconfirmed, and by which source.

    `other` is the txid that replaced it, or the hash of the block, whose `height` is given.
    """

    at: datetime
    event: str
    source: str | None
    other: str | None
    height: int | None


@dataclass(frozen=True)
class StoredScore:
    """One score of a transaction: by which model, in which lane, and why."""

    model_version: str
    context_version: int
    lane: str
    score: float
    threshold: float
    is_anomaly: bool
    reasons: list[Reason]
    scored_at: datetime


@dataclass(frozen=True)
class FeatureValue:
    """One feature. `value` is None when unknown; `percentile` is its place among the newest transactions, 0 to 100."""

    name: str
    unit: str
    value: float | None
    percentile: float | None


@dataclass(frozen=True)
class TransactionDetail:
    """Everything that is known of one transaction. Amounts in satoshi, `size` in bytes, times UTC.

    `value_usd` is by `usd_price`, that of a bitcoin known when it was seen.
    """

    txid: str
    seen_at: datetime
    feed_time: datetime | None
    landed_at: datetime
    source: str
    value_sat: int
    value_usd: float | None
    usd_price: float | None
    input_sat: int | None
    fee_sat: int | None
    fee_rate: float | None
    vsize: int
    weight: int
    size: int
    rbf: bool
    version: int
    lock_time: int
    inputs: list[Coin]
    outputs: list[Coin]
    features: list[FeatureValue]
    scores: list[StoredScore]
    """The newest first."""
    alert: AlertDetail | None
    confirmed_in: int | None
    """Height of the block that holds it, None while none is known."""
    life: list[LifeEvent]
    """From the first sighting on."""
    archived: date | None = None
    """The day of the archive that it was read from, None while the database has it."""


def list_transactions(
    connection: Connection,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    min_value_sat: int = 0,
    source: str | None = None,
    cursor: str | None = None,
    limit: int = DEFAULT_LIMIT,
) -> Page[TransactionSummary]:
    """Transactions seen in [since, until), newest first. Raises BadCursorError."""
    filters = {"since": since, "until": until, "min_value_sat": min_value_sat, "source": source}
    query = statement("queries", "list_transactions")
    return read_page(connection, _summary, query, filters, ("seen_at", "txid"), cursor, limit)


def _summary(**row: Any) -> TransactionSummary:
    return TransactionSummary(value_usd=worth(row["value_sat"], row["usd_price"]), **row)


def read_transaction_detail(connection: Connection, txid: str) -> TransactionDetail | None:
    """One transaction with its features, scores and alert, or None when it was never landed."""

    def detail(
        inputs: list[dict[str, Any]], outputs: list[dict[str, Any]], tip_height: int | None, **row: Any
    ) -> TransactionDetail:
        transaction = read_transaction(connection, txid)
        batch = None if transaction is None else TransactionBatch.of([transaction])
        spent, created = read_coins(connection, batch, inputs, outputs, tip_height)
        return TransactionDetail(
            **row,
            value_usd=worth(row["value_sat"], row["usd_price"]),
            inputs=spent,
            outputs=created,
            features=read_feature_values(connection, txid),
            scores=read_rows(
                connection,
                _score,
                "SELECT model_version, context_version, lane, score, threshold, is_anomaly, reasons, scored_at"
                " FROM transaction_scores WHERE txid = %(txid)s ORDER BY scored_at DESC",
                {"txid": txid},
            ),
            alert=read_alert(connection, txid),
            life=read_rows(connection, LifeEvent, statement("queries", "transaction_life"), {"txid": txid}),
        )

    return next(iter(read_rows(connection, detail, statement("queries", "transaction_detail"), {"txid": txid})), None)


def _score(reasons: object, **row: Any) -> StoredScore:
    return StoredScore(reasons=stored_reasons(reasons), **row)


def read_own_features(connection: Connection, txid: str) -> dict[str, float] | None:
    """The features of a transaction by name, NaN where unknown, or None when it was never landed.

    They are those of its window if that is computed already; whoever follows an alert comes before that.
    """
    transaction = read_transaction(connection, txid)
    if transaction is None:
        return None
    stored = read_named_features(connection, {txid: transaction.seen_at}).get(txid)
    own = features_of(connection, transaction) if stored is None else stored
    return dict(zip(FEATURE_NAMES, own.tolist(), strict=True))


def read_feature_values(connection: Connection, txid: str) -> list[FeatureValue]:
    """The features of a transaction in the order of the contract, empty when it was never landed."""
    return placed_features(connection, read_own_features(connection, txid))


def placed_features(connection: Connection, own: Mapping[str, float | None] | None) -> list[FeatureValue]:
    """These features in the order of the contract, each with its place among the newest transactions; None has none."""
    if own is None:
        return []
    with connection.cursor(row_factory=dict_row) as cursor:
        percentiles = cursor.execute(_percentiles(), {"limit": RECENT_ROWS, **own}).fetchone() or {}
    return [
        # JSON has no NaN.
        FeatureValue(feature.name, feature.unit, None, None)
        if (value := own[feature.name]) is None or math.isnan(value)
        else FeatureValue(feature.name, feature.unit, value, percentiles.get(feature.name))
        for feature in FEATURES
    ]


_COLUMNS = sql.SQL(", ").join(map(sql.Identifier, FEATURE_NAMES))


def _percentiles() -> sql.Composed:
    """Of each feature the share of the newest transactions that are below it, ties counted half, in percent."""
    shares = sql.SQL(", ").join(
        sql.SQL(
            "100 * avg(CASE WHEN {0} < {1} THEN 1 WHEN {0} = {1} THEN 0.5 ELSE 0 END)"
            " FILTER (WHERE {0} <> 'NaN')::float8 AS {0}"
        ).format(sql.Identifier(name), sql.Placeholder(name))
        for name in FEATURE_NAMES
    )
    return sql.SQL(
        "SELECT {} FROM (SELECT {} FROM transaction_features ORDER BY seen_at DESC LIMIT %(limit)s) AS recent"
    ).format(shares, _COLUMNS)
