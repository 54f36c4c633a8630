"""Feast: its catalogue, features for training by range of time, and its online store.

The definitions are in `feature_repo/`. What the online store does not have is read from the table. Feast's import takes
seconds: it happens inside the functions, and the lanes read the tables.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from math import isnan
from pathlib import Path
from string import Template
from threading import Lock
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import structlog
from psycopg import sql
from psycopg.rows import dict_row

from txwatch.clock import context_window, utc_now, window_key, window_start
from txwatch.features.context import NetworkContext
from txwatch.features.contract import CONTRACT_VERSION, FEATURE_NAMES
from txwatch.features.network import read_network_context
from txwatch.store.database import Connection, sqlalchemy_url, url_parts, with_schema

if TYPE_CHECKING:
    import pandas as pd
    from feast import FeatureStore

REPOSITORY = Path(__file__).parents[2] / "feature_repo"
FEATURE_SERVICE = f"anomaly_model_v{CONTRACT_VERSION}"
RETRIEVED_AT_ONCE = timedelta(hours=1)
"""Feast holds a retrieval several times in memory: a day is fetched hour by hour."""


def feast_environment(database_url: str) -> dict[str, str]:
    """The variables of `feature_repo/feature_store.yaml` for a database."""
    parts = url_parts(database_url)
    return {
        "FEAST_REGISTRY_URL": with_schema(sqlalchemy_url(database_url), "feast"),
        "FEAST_DB_HOST": str(parts.get("host") or "localhost"),
        "FEAST_DB_PORT": str(parts.get("port") or 5432),
        "FEAST_DB_NAME": str(parts.get("dbname") or "postgres"),
        "FEAST_DB_USER": str(parts.get("user") or "postgres"),
        "FEAST_DB_PASSWORD": str(parts.get("password") or ""),
    }


@contextmanager
def feature_store(
    database_url: str, redis_url: str | None = None, keep: timedelta = timedelta(days=90)
) -> Iterator["FeatureStore"]:
    """The feature store as `open_feature_store` gives it, with its connections closed at the end."""
    store = open_feature_store(database_url, redis_url, keep)
    try:
        yield store
    finally:
        _close(store)


def _close(store: "FeatureStore") -> None:
    """Close the registry's and the online store's connections to Postgres, which Feast itself leaves open."""
    if connection := getattr(store._get_provider().online_store, "_conn", None):
        connection.close()
    for engine in ("read_engine", "write_engine"):
        if hasattr(store.registry, engine):
            getattr(store.registry, engine).dispose()


def open_feature_store(
    database_url: str, redis_url: str | None = None, keep: timedelta = timedelta(days=90)
) -> "FeatureStore":
    """The feature store on a database, configured by `feature_repo/feature_store.yaml`.

    With a Redis URL the online store is there, and what is written to it expires after `keep`.
    """
    from feast import FeatureStore, RepoConfig

    config = store_config(database_url)
    if redis_url is not None:
        config["online_store"] = {
            "type": "redis",
            "connection_string": redis_connection(redis_url),
            "key_ttl_seconds": int(keep.total_seconds()),
        }
    return FeatureStore(config=RepoConfig(repo_path=REPOSITORY, **config))


def store_config(database_url: str) -> dict[str, Any]:
    """What `feature_repo/feature_store.yaml` says, for a database."""
    import yaml

    variables = feast_environment(database_url)

    def filled(part: Any) -> Any:
        if isinstance(part, dict):
            return {name: filled(inner) for name, inner in part.items()}
        return Template(part).substitute(variables) if isinstance(part, str) else part

    # Filled in after it is read: a password may hold what YAML takes for its own.
    config: dict[str, Any] = filled(yaml.safe_load((REPOSITORY / "feature_store.yaml").read_text()))
    return config


def redis_connection(redis_url: str) -> str:
    """A redis:// or rediss:// URL in Feast's form: host:port,name=value,...

    Raises ValueError for another scheme, and for what this form cannot hold.
    """
    parts = urlsplit(redis_url)
    if parts.scheme not in {"redis", "rediss"} or not parts.hostname:
        raise ValueError("REDIS_URL must begin with redis:// or rediss:// and name a host")
    options = {
        "db": parts.path.strip("/") or "0",
        "username": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
        "ssl": "true" if parts.scheme == "rediss" else "",
    }
    if any("," in value for value in options.values()):
        raise ValueError("a user or password in REDIS_URL may hold no comma, which Feast takes for the end of it")
    given = [f"{name}={value}" for name, value in options.items() if value]
    return ",".join([f"{parts.hostname}:{parts.port or 6379}", *given])


def training_features(store: "FeatureStore", start: datetime, end: datetime) -> "pd.DataFrame":
    """The features of all transactions seen in [start, end): columns `seen_at`, `txid` and those of the contract.

    Retrieved by range of time, without an entity frame: Feast's point-in-time join on Postgres is quadratic, and a
    transaction has one row of features only. Ordered by time, then txid.
    """
    import pandas as pd

    service, hours = store.get_feature_service(FEATURE_SERVICE), []
    while start < end:
        stop = min(start + RETRIEVED_AT_ONCE, end)
        last = stop - timedelta(microseconds=1)  # Feast's range holds its end; ours does not.
        hours.append(store.get_historical_features(features=service, start_date=start, end_date=last).to_df())
        start = stop
    frame = pd.concat([hour for hour in hours if len(hour)] or hours[:1], ignore_index=True)
    frame = frame.rename(columns={"event_timestamp": "seen_at"})
    frame["seen_at"] = frame["seen_at"].dt.tz_localize("UTC")
    ordered: pd.DataFrame = frame.sort_values(["seen_at", "txid"], ignore_index=True)
    return ordered


log = structlog.get_logger(__name__)

_CONTEXT = [field.name for field in fields(NetworkContext) if field.name not in {"as_of", "version"}]


@dataclass(frozen=True)
class ServedFeatures:
    """A transaction's features, None where unknown, and the network's context, None while it is not published."""

    txid: str
    contract_version: int
    features: dict[str, float | None]
    network: NetworkContext | None


class OnlineFeatures:
    """Serves features through the online store, and from the tables what that does not have or cannot give.

    The store is opened for the first caller, and asked by one at a time.
    """

    def __init__(self, database_url: str, redis_url: str | None, keep: timedelta) -> None:
        self._place = (database_url, redis_url, keep)
        self._lock = Lock()
        self._store: FeatureStore | None = None

    def of(self, connection: Connection, txid: str) -> ServedFeatures | None:
        """The features of one transaction, None while it has none."""
        if not (stored := _stored_features(connection, txid)):
            return None
        as_of = context_window(window_start(stored[0]["seen_at"]))
        features, network = None, None
        with self._lock:
            try:
                store = self._store = self._store or open_feature_store(*self._place)
                features = transaction_features_of(store, connection, txid)
                network = online_network(store, as_of)
            except Exception as error:  # whatever the store's client raises: the tables have all of it
                log.warning("online_store_failed", txid=txid, error=str(error))
                self._forget()
        features = features or stored[0]
        values = {name: features[name] for name in FEATURE_NAMES}
        known = {name: None if x is None or isnan(x) else float(x) for name, x in values.items()}
        network = network or read_network_context(connection, as_of)
        return ServedFeatures(txid, CONTRACT_VERSION, known, network if network.version else None)

    def close(self) -> None:
        """Close the store's connections; the next call opens it again."""
        with self._lock:
            self._forget()

    def _forget(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            _close(store)


def push_network_contexts(store: "FeatureStore", contexts: Sequence[NetworkContext]) -> None:
    """Put contexts into the online store, the newest version of each window. Safe to repeat."""
    import pandas as pd

    if not contexts:
        return
    rows = [
        {"as_of": window_key(context.as_of), "computed_at": utc_now(), "context_version": context.version}
        | {name: list(value) if isinstance(value := getattr(context, name), tuple) else value for name in _CONTEXT}
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
    figures: dict[str, Any] = {name: tuple(x) if isinstance(x, list) else x for name, x in values.items()}
    return NetworkContext(as_of=as_of, version=version, **figures)


def transaction_features_of(store: "FeatureStore", connection: Connection, txid: str) -> dict[str, float | None] | None:
    """The features of one transaction, None where unknown; None for one without features.

    The first call puts them into the online store: hardly any transaction is ever asked for.
    """
    import pandas as pd

    found = _read(store, "transaction_features", FEATURE_NAMES, {"txid": txid})
    if any(value is not None for value in found.values()):
        return found
    if not (rows := _stored_features(connection, txid)):
        return None
    store.write_to_online_store("transaction_features", df=pd.DataFrame(rows))
    return _read(store, "transaction_features", FEATURE_NAMES, {"txid": txid})


def _stored_features(connection: Connection, txid: str) -> list[dict[str, Any]]:
    columns = sql.SQL(", ").join(map(sql.Identifier, FEATURE_NAMES))
    # By its time, so that of all days one is read.
    query = sql.SQL(
        "SELECT txid, seen_at, {} FROM transaction_features"
        " WHERE txid = %(txid)s AND seen_at = (SELECT seen_at FROM transactions WHERE txid = %(txid)s)"
    ).format(columns)
    with connection.cursor(row_factory=dict_row, binary=True) as cursor:
        return cursor.execute(query, {"txid": txid}).fetchall()


def _read(store: "FeatureStore", view: str, names: Sequence[str], key: dict[str, str]) -> dict[str, Any]:
    response = store.get_online_features(features=[f"{view}:{name}" for name in names], entity_rows=[key]).to_dict()
    return {name: response[name][0] for name in names}
