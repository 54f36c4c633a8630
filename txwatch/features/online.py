"""Feast's online store: what has an immutable key. Network context by the window that it is as of, features by txid.

Nothing durable lives there. What is missing (a Redis that was emptied, a push that failed) is read from the table.
"""

from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from typing import TYPE_CHECKING, Any

import structlog
from psycopg import sql
from psycopg.rows import dict_row

from txwatch.clock import utc_now
from txwatch.features.context import NetworkContext
from txwatch.features.contract import FEATURE_NAMES
from txwatch.features.live import NetworkLookup, stored_network
from txwatch.store.database import Connection
from txwatch.windows import window_key

if TYPE_CHECKING:
    from feast import FeatureStore

log = structlog.get_logger(__name__)

_CONTEXT = [field.name for field in fields(NetworkContext) if field.name not in {"as_of", "version"}]


def push_network_contexts(store: "FeatureStore", contexts: Sequence[NetworkContext]) -> None:
    """Put contexts into the online store, the newest version of each window. Safe to repeat."""
    import pandas as pd

    if not contexts:
        return
    rows = [
        {"as_of": window_key(context.as_of), "computed_at": utc_now(), "context_version": context.version}
        | {name: _plain(getattr(context, name)) for name in _CONTEXT}
        for context in contexts
    ]
    store.write_to_online_store("network_context", df=pd.DataFrame(rows))


def online_network(store: "FeatureStore", as_of: datetime) -> NetworkContext | None:
    """The context as of a window, as it was last pushed; None if it was not."""
    names = ["context_version", *_CONTEXT]
    values = _read(store, "network_context", names, {"as_of": window_key(as_of)})
    if values["context_version"] is None:
        return None
    version = int(values.pop("context_version"))
    return NetworkContext(as_of=as_of, version=version, **{name: _tuple(value) for name, value in values.items()})


def network_lookup(store: "FeatureStore", connection: Connection) -> NetworkLookup:
    """The lookup of the live lane: the online store, and the table for what that does not have or cannot give."""
    stored = stored_network(connection)

    def lookup(as_of: datetime) -> NetworkContext | None:
        try:
            found = online_network(store, as_of)
        except Exception as error:  # whatever the store's client raises: scoring goes on from the table
            log.warning("online_store_failed", as_of=window_key(as_of), error=str(error))
            found = None
        return found or stored(as_of)

    return lookup


def transaction_features_of(store: "FeatureStore", connection: Connection, txid: str) -> dict[str, float | None] | None:
    """The features of one transaction, None where unknown; None for one without features.

    Read through the online store: the first to ask puts them there. To push all of them would be fifty values for
    each transaction, of which hardly any is ever asked for.
    """
    found = _read(store, "transaction_features", FEATURE_NAMES, {"txid": txid})
    if any(value is not None for value in found.values()):
        return found
    if not push_transaction_features(store, connection, [txid]):
        return None
    return _read(store, "transaction_features", FEATURE_NAMES, {"txid": txid})


def push_transaction_features(store: "FeatureStore", connection: Connection, txids: Sequence[str]) -> int:
    """Put the stored features of these transactions into the online store. Returns how many have any."""
    import pandas as pd

    columns = sql.SQL(", ").join(map(sql.Identifier, FEATURE_NAMES))
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(
            sql.SQL("SELECT txid, seen_at, {} FROM transaction_features WHERE txid = ANY(%s)").format(columns),
            [list(txids)],
        ).fetchall()
    if rows:
        store.write_to_online_store("transaction_features", df=pd.DataFrame(rows))
    return len(rows)


def _read(store: "FeatureStore", view: str, names: Sequence[str], key: dict[str, str]) -> dict[str, Any]:
    response = store.get_online_features(features=[f"{view}:{name}" for name in names], entity_rows=[key]).to_dict()
    return {name: response[name][0] for name in names}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
