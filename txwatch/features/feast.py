"""Feast: its catalogue, features for training by range of time, and its online store.

The definitions are in `feature_repo/`. Feast's import takes seconds, so it happens inside the functions.

Nothing durable lives there. What is missing (a Redis that was emptied, a push that failed) is read from the table.
The lanes read the tables: Feast's import would hold up a worker's first alert by seconds.
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
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row

from txwatch.clock import context_window, utc_now, window_key, window_start
from txwatch.features.context import NetworkContext
from txwatch.features.contract import CONTRACT_VERSION, FEATURE_NAMES
from txwatch.features.network import read_network_contexts
from txwatch.store.database import Connection, libpq_url, sqlalchemy_url, with_schema

if TYPE_CHECKING:
    import pandas as pd
    from feast import FeatureStore

REPOSITORY = Path(__file__).parents[2] / "feature_repo"
FEATURE_SERVICE = f"anomaly_model_v{CONTRACT_VERSION}"
RETRIEVED_AT_ONCE = timedelta(hours=1)
"""Feast holds a retrieval several times in memory: a day is fetched hour by hour."""


def feast_environment(database_url: str) -> dict[str, str]:
    """The variables of `feature_repo/feature_store.yaml` for a database."""
    parts = conninfo_to_dict(libpq_url(database_url))
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
        close_feature_store(store)


def close_feature_store(store: "FeatureStore") -> None:
    """Close the connections to Postgres, which Feast itself leaves open: those of the registry and the online store."""
    connection = getattr(store._get_provider().online_store, "_conn", None)
    if connection is not None:
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
    import yaml
    from feast import FeatureStore, RepoConfig

    text = Template((REPOSITORY / "feature_store.yaml").read_text()).substitute(feast_environment(database_url))
    config = yaml.safe_load(text)
    if redis_url is not None:
        config["online_store"] = {
            "type": "redis",
            "connection_string": redis_connection(redis_url),
            "key_ttl_seconds": int(keep.total_seconds()),
        }
    return FeatureStore(config=RepoConfig(repo_path=REPOSITORY, **config))


def redis_connection(redis_url: str) -> str:
    """A redis:// or rediss:// URL in Feast's form: host:port,name=value,... Raises ValueError for another scheme."""
    parts = urlsplit(redis_url)
    if parts.scheme not in {"redis", "rediss"} or not parts.hostname:
        raise ValueError("REDIS_URL must begin with redis:// or rediss:// and name a host")
    options = {
        "db": parts.path.strip("/") or "0",
        "username": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
        "ssl": "true" if parts.scheme == "rediss" else "",
    }
    given = [f"{name}={value}" for name, value in options.items() if value]
    return ",".join([f"{parts.hostname}:{parts.port or 6379}", *given])


def training_features(store: "FeatureStore", start: datetime, end: datetime) -> "pd.DataFrame":
    """The features of all transactions seen in [start, end): columns `seen_at`, `txid` and those of the contract.

    Retrieved by range of time, without an entity frame: Feast's point-in-time join on Postgres is quadratic, and a
    transaction has one row of features only. Ordered by time, then txid.
    """
    import pandas as pd

    hours = []
    while start < end:
        stop = min(start + RETRIEVED_AT_ONCE, end)
        hours.append(_retrieve(store, start, stop))
        start = stop
    frame = pd.concat([hour for hour in hours if len(hour)] or hours[:1], ignore_index=True)
    return frame.sort_values(["seen_at", "txid"], ignore_index=True)


def _retrieve(store: "FeatureStore", start: datetime, end: datetime) -> "pd.DataFrame":
    # Feast's range holds its end; ours does not.
    last = end - timedelta(microseconds=1)
    service = store.get_feature_service(FEATURE_SERVICE)
    frame: pd.DataFrame = store.get_historical_features(features=service, start_date=start, end_date=last).to_df()
    frame = frame.rename(columns={"event_timestamp": "seen_at"})
    frame["seen_at"] = frame["seen_at"].dt.tz_localize("UTC")
    return frame


log = structlog.get_logger(__name__)

_CONTEXT = [field.name for field in fields(NetworkContext) if field.name not in {"as_of", "version"}]


@dataclass(frozen=True)
class ServedFeatures:
    """What models see of a transaction: its features, None where unknown, and the network that they are relative to,
    None while that is not published."""

    txid: str
    contract_version: int
    features: dict[str, float | None]
    network: NetworkContext | None


class OnlineFeatures:
    """Serves features through the online store, and from the tables what that does not have or cannot give.

    The store is opened for the first who asks, for Feast's import takes seconds, and is asked by one at a time.
    """

    def __init__(self, database_url: str, redis_url: str | None, keep: timedelta) -> None:
        self._place = (database_url, redis_url, keep)
        self._lock = Lock()
        self._store: FeatureStore | None = None

    def of(self, connection: Connection, txid: str) -> ServedFeatures | None:
        """The features of one transaction, None while it has none."""
        row = connection.execute("SELECT seen_at FROM transaction_features WHERE txid = %s LIMIT 1", [txid]).fetchone()
        if row is None:
            return None
        as_of = context_window(window_start(row[0]))
        features, network = None, None
        with self._lock:
            try:
                store = self._store = self._store or open_feature_store(*self._place)
                features = transaction_features_of(store, connection, txid)
                network = online_network(store, as_of)
            except Exception as error:  # whatever the store's client raises: the tables have all of it
                log.warning("online_store_failed", txid=txid, error=str(error))
                self._close()
        features = features or _stored_features(connection, [txid])[0]
        known = {name: _known(features[name]) for name in FEATURE_NAMES}
        network = network or read_network_contexts(connection, [as_of]).get(as_of)
        return ServedFeatures(txid, CONTRACT_VERSION, known, network)

    def close(self) -> None:
        """Close the store's connections. It is opened again for whoever asks."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            close_feature_store(store)


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

    rows = _stored_features(connection, txids)
    if rows:
        store.write_to_online_store("transaction_features", df=pd.DataFrame(rows))
    return len(rows)


def _stored_features(connection: Connection, txids: Sequence[str]) -> list[dict[str, Any]]:
    columns = sql.SQL(", ").join(map(sql.Identifier, FEATURE_NAMES))
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(
            sql.SQL("SELECT txid, seen_at, {} FROM transaction_features WHERE txid = ANY(%s)").format(columns),
            [list(txids)],
        ).fetchall()


def _known(value: float | None) -> float | None:
    return None if value is None or isnan(value) else float(value)


def _read(store: "FeatureStore", view: str, names: Sequence[str], key: dict[str, str]) -> dict[str, Any]:
    response = store.get_online_features(features=[f"{view}:{name}" for name in names], entity_rows=[key]).to_dict()
    return {name: response[name][0] for name in names}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
