"""Feast as this product uses it: which database it works on, and features for training by range of time.

The definitions are in `feature_repo/`. Feast's import takes seconds, so it happens inside the functions.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from psycopg.conninfo import conninfo_to_dict

from txwatch.features.contract import CONTRACT_VERSION
from txwatch.store.urls import libpq_url, sqlalchemy_url, with_schema

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
