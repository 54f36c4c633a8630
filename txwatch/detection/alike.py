"""The transactions that a model sees as most alike: the nearest ones among the features that it uses."""

from dataclasses import dataclass
from datetime import datetime

import numpy as np
from psycopg import sql

from txwatch.detection.model import Model
from txwatch.detection.reasons import feature_words
from txwatch.features.batch import Floats
from txwatch.features.contract import FEATURE_NAMES
from txwatch.store.database import Connection

AMONG = 5_000
"""Newest transactions before it that are compared: a tenth of a second."""
NEAREST = 8
DIFFERENCES = 3


@dataclass(frozen=True)
class Neighbour:
    """A transaction and how far it is, in standard deviations of the training day.

    `differs` says what it is where most of the distance comes from. Satoshi and sat/vB, None if unknown.
    """

    txid: str
    seen_at: datetime
    distance: float
    value_sat: float
    fee_rate: float | None
    differs: list[str]


@dataclass(frozen=True)
class Neighbourhood:
    """The nearest of so many transactions, `among` those that were seen before it, by a model's eyes."""

    model_version: str
    among: int
    nearest: list[Neighbour]


def read_neighbourhood(
    connection: Connection, model: Model, txid: str, seen_at: datetime, own: Floats
) -> Neighbourhood:
    """The transactions nearest to one with these features, of shape (len(FEATURE_NAMES),)."""
    query = sql.SQL(
        "SELECT txid, seen_at, {} FROM transaction_features WHERE seen_at <= %s AND txid <> %s"
        " ORDER BY seen_at DESC LIMIT %s"
    ).format(sql.SQL(", ").join(map(sql.Identifier, FEATURE_NAMES)))
    found = connection.execute(query, [seen_at, txid, AMONG], binary=True).fetchall()
    if not found:
        return Neighbourhood(model.version, 0, [])
    features = np.array([row[2:] for row in found], np.float64)
    rows, (origin,) = model.compact.rows(features), model.compact.rows(own[None, :])
    parts = (rows - origin) ** 2
    distances = np.sqrt(parts.sum(axis=1))
    nearest = np.argsort(distances, kind="stable")[:NEAREST].tolist()
    return Neighbourhood(
        model.version,
        len(found),
        [
            Neighbour(
                txid=found[i][0],
                seen_at=found[i][1],
                distance=float(distances[i]),
                value_sat=_of("value_sat", features[i]),
                fee_rate=None if np.isnan(rate := _of("fee_rate", features[i])) else rate,
                differs=_differences(model, parts[i], features[i]),
            )
            for i in nearest
        ],
    )


def _of(name: str, features: Floats) -> float:
    return float(features[FEATURE_NAMES.index(name)])


def _differences(model: Model, parts: Floats, features: Floats) -> list[str]:
    """The features that make most of a distance, in words, as far as their values are known."""
    most = [int(at) for at in np.argsort(-parts, kind="stable")[:DIFFERENCES] if parts[at] > 0]
    names = [FEATURE_NAMES[model.compact.used[at]] for at in most]
    return [feature_words(name, _of(name, features)) for name in names if not np.isnan(_of(name, features))]
