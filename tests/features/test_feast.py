"""Feast over our own tables: features for training by time, and context and features online, in Postgres and Redis."""

from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import quote

import numpy as np
import pytest

from feature_repo.apply import apply
from tests.builders import T0
from tests.features.window_lane import materialize
from txwatch.clock import WINDOW, context_window, window_range, window_start
from txwatch.features.context import NetworkContext
from txwatch.features.contract import FEATURE_NAMES
from txwatch.features.feast import (
    OnlineFeatures,
    feature_store,
    online_network,
    push_network_contexts,
    redis_connection,
    store_config,
    training_features,
    transaction_features_of,
)
from txwatch.features.network import read_network_contexts
from txwatch.features.store import read_recent_features
from txwatch.lab.simulator.traffic import Simulator
from txwatch.store.database import Connection, connect
from txwatch.store.transactions import land_transactions

if TYPE_CHECKING:
    from feast import FeatureStore

END = T0 + timedelta(minutes=75)


@pytest.fixture(scope="module")
def connection(database_url: str) -> Iterator[Connection]:
    """An hour and a quarter of simulated traffic with its features."""
    simulated = Simulator(seed=11, start=T0, rate=0.2).until(END)
    transactions = [tx.transaction("bulk") for tx in simulated]
    with connect(database_url) as connection:
        with connection.transaction():
            land_transactions(connection, transactions)
        materialize(connection, T0, END)
        yield connection


@pytest.fixture(scope="module", params=["postgres", "redis"])
def store(request: pytest.FixtureRequest, database_url: str) -> Iterator["FeatureStore"]:
    redis_url = request.getfixturevalue("redis_url") if request.param == "redis" else None
    apply(database_url, redis_url)
    with feature_store(database_url, redis_url) as store:
        yield store


def test_training_features_are_those_of_the_range_in_order(store: "FeatureStore", connection: Connection) -> None:
    start = T0 + timedelta(minutes=10)
    frame = training_features(store, start, END)
    assert set(frame.columns) >= {"txid", "seen_at", *FEATURE_NAMES}
    expected = read_recent_features(connection, start)
    np.testing.assert_array_equal(frame[list(FEATURE_NAMES)].to_numpy("float64"), expected)
    assert frame["seen_at"].is_monotonic_increasing
    assert frame["seen_at"].min() >= start
    assert frame["seen_at"].max() < END


def test_a_context_comes_back_online_as_it_was_published(store: "FeatureStore", connection: Connection) -> None:
    windows = window_range(T0, END)
    published = read_network_contexts(connection, windows)
    push_network_contexts(store, list(published.values()))
    assert {window: online_network(store, window) for window in windows} == published
    assert online_network(store, END + WINDOW) is None


def test_a_later_version_replaces_an_earlier_one(store: "FeatureStore") -> None:
    first = NetworkContext(T0 - WINDOW, 1, tx_count_1h=7)
    second = NetworkContext(T0 - WINDOW, 2, tx_count_1h=8, median_fee_rate_1h=3.5, kind_counts_1h=(5, 3, 0, 0, 0))
    for context in (first, second):
        push_network_contexts(store, [context])
    assert online_network(store, T0 - WINDOW) == second


def test_features_of_a_transaction_are_read_through(store: "FeatureStore", connection: Connection) -> None:
    row = connection.execute("SELECT txid FROM transaction_features ORDER BY seen_at DESC LIMIT 1").fetchone()
    assert row is not None
    expected = read_recent_features(connection, T0)[-1]
    for _ in ("from the table", "online"):
        found = transaction_features_of(store, connection, row[0])
        assert found is not None
        values = [np.nan if value is None else value for value in found.values()]
        np.testing.assert_array_equal(values, expected)
    assert transaction_features_of(store, connection, "f" * 64) is None


def test_features_are_served_online_and_from_the_tables_where_the_store_is_away(
    request: pytest.FixtureRequest, store: "FeatureStore", connection: Connection, database_url: str
) -> None:
    assert store.project == "txwatch", "it was applied to the database"
    (txid, seen_at) = connection.execute(
        "SELECT txid, seen_at FROM transaction_features ORDER BY seen_at DESC LIMIT 1"
    ).fetchone() or ("", T0)
    as_of = context_window(window_start(seen_at))
    kind = request.node.callspec.params["store"]
    redis_url = request.getfixturevalue("redis_url") if kind == "redis" else None
    online = OnlineFeatures(database_url, redis_url, timedelta(days=1))
    away = OnlineFeatures(database_url, "redis://127.0.0.1:1", timedelta(days=1))
    try:
        found = online.of(connection, txid)
        assert found is not None
        assert found.network == read_network_contexts(connection, [as_of])[as_of]
        stored = [None if np.isnan(value) else value for value in read_recent_features(connection, T0)[-1].tolist()]
        assert list(found.features.values()) == stored
        assert away.of(connection, txid) == found
        assert online.of(connection, "f" * 64) is None
    finally:
        online.close()
        away.close()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://cache", "cache:6379,db=0"),
        ("redis://cache:7000/3", "cache:7000,db=3"),
        ("rediss://watch:s%3Dt@cache/1", "cache:6379,db=1,username=watch,password=s=t,ssl=true"),
    ],
)
def test_a_redis_url_in_feasts_form(url: str, expected: str) -> None:
    assert redis_connection(url) == expected


@pytest.mark.parametrize("url", ["redis://:s%2Ct@cache", "rediss://s%2Ct:secret@cache/1"])
def test_a_redis_url_that_feasts_form_cannot_hold_is_refused_without_its_secret(url: str) -> None:
    with pytest.raises(ValueError, match="may hold no comma") as error:
        redis_connection(url)
    assert "s,t" not in str(error.value)


@pytest.mark.parametrize("password", ["plain", "a\\nb", 'a"b', "\\d: #x", "${HOME}$x", "0123"])
def test_any_password_reaches_feast_as_it_is(password: str) -> None:
    config = store_config(f"postgresql://watch:{quote(password, safe='')}@db:5433/txwatch")
    for store in ("offline_store", "online_store"):
        assert config[store]["password"] == password
        assert (config[store]["host"], int(config[store]["port"]), config[store]["user"]) == ("db", 5433, "watch")
    assert config["registry"]["path"].startswith("postgresql+psycopg://watch:")


@pytest.mark.parametrize("url", ["http://cache", "redis://", "cache:6379"])
def test_what_is_no_redis_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="REDIS_URL must begin with redis://"):
        redis_connection(url)
