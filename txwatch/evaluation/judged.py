"""What people said of alerts, as labelled data: useful or noise, for the figures of a model and for the gate."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

import numpy as np
import psycopg

from txwatch.alerts.feedback import read_precision
from txwatch.evaluation.held_out import HeldOutWindow
from txwatch.features.context import NetworkContext
from txwatch.features.network_store import read_network_contexts
from txwatch.features.store import read_named_features
from txwatch.store.database import Connection, connect
from txwatch.store.reading import read_named_transactions
from txwatch.store.sql import statement
from txwatch.windows import context_window, window_start

JUDGED_AT_MOST = 1_000
"""The newest ones: tastes change, and so does traffic."""


@dataclass(frozen=True)
class JudgedAlerts:
    """Alerts of the forest that people judged, by window, with their features. Those not `useful`, by txid, are noise.

    Alerts that detectors alone raised are not among them: no model decides on those.
    """

    windows: Sequence[HeldOutWindow] = ()
    useful: frozenset[str] = frozenset()


NOTHING_JUDGED = JudgedAlerts()


def read_judged(connection: Connection, at_most: int = JUDGED_AT_MOST) -> JudgedAlerts:
    """The newest judged alerts whose transactions still have features. People who disagree count for the majority."""
    rows = connection.execute(statement(__file__, "judged_alerts"), {"at_most": at_most}).fetchall()
    features = read_named_features(connection, {txid: seen_at for txid, seen_at, _ in rows})
    transactions = [tx for tx in read_named_transactions(connection, list(features)) if tx.txid in features]
    transactions.sort(key=lambda tx: (tx.seen_at, tx.txid))
    groups = {start: list(group) for start, group in groupby(transactions, lambda tx: window_start(tx.seen_at))}
    networks = read_network_contexts(connection, [context_window(start) for start in groups])
    windows = [
        HeldOutWindow(
            group,
            np.stack([features[tx.txid] for tx in group]),
            networks.get(context_window(start)) or NetworkContext(context_window(start), version=0),
        )
        for start, group in groups.items()
    ]
    return JudgedAlerts(tuple(windows), frozenset(txid for txid, _, useful in rows if useful))


def feedback_figures(database_url: str | None) -> dict[str, Any]:
    """The precision of each detector and model version by what people answered, and in words why there is none."""
    if database_url is None:
        return _without("DATABASE_URL is not set: what people said of alerts is not known here")
    try:
        with connect(database_url, application="txwatch evaluate") as connection:
            judged = read_precision(connection, datetime.min.replace(tzinfo=UTC))
    except psycopg.Error as error:
        return _without(f"the database could not be read: {error}".strip())
    if not judged:
        return _without("nobody has judged an alert yet")
    return {"judged": [asdict(one) | {"precision": one.share} for one in judged], "note": None}


def _without(note: str) -> dict[str, Any]:
    return {"judged": [], "note": note}
