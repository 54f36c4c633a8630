"""What is computed in two ways is the same to the last digit, on random traffic: in SQL, in columns, and by hand."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import fields
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from tests.builders import T0
from tests.features.traffic import SPAN, traffic
from tests.features.window_lane import materialize
from txwatch.clock import WINDOW, context_window, window_range, window_start
from txwatch.features.addresses import read_address_context, write_address_activity
from txwatch.features.batch import Coins, TransactionBatch, read_batch
from txwatch.features.context import AddressActivity, Context, NetworkContext
from txwatch.features.contract import FEATURE_NAMES
from txwatch.features.network import (
    NetworkColumns,
    network_buckets,
    network_contexts,
    publish_network_baseline,
    read_network_contexts,
)
from txwatch.features.store import read_features
from txwatch.features.transaction import transaction_features
from txwatch.store.database import Connection, connect
from txwatch.store.transactions import land_transactions, read_transactions
from txwatch.wire.transaction import Transaction

END = T0 + SPAN
WINDOWS = window_range(T0, END)
Activity = dict[str, AddressActivity]


@pytest.fixture(scope="module")
def connection(database_url: str) -> Iterator[Connection]:
    with connect(database_url) as connection:
        yield connection


def activity_by_hand(transactions: list[Transaction], start: datetime, end: datetime) -> Activity:
    """What each address did in [start, end), counted one transaction after the other."""
    taken: dict[str, list[tuple[datetime, int, int]]] = defaultdict(list)
    for tx in transactions:
        if not start <= tx.seen_at < end:
            continue
        for address in {coin.addr for coin in (*tx.inputs, *tx.outputs) if coin.addr is not None}:
            received = sum(coin.value for coin in tx.outputs if coin.addr == address)
            spent = sum(coin.value or 0 for coin in tx.inputs if coin.addr == address)
            taken[address].append((tx.seen_at, received, spent))
    return {
        address: AddressActivity(
            len(parts), sum(p[1] for p in parts), sum(p[2] for p in parts), min(parts)[0], max(parts)[0]
        )
        for address, parts in taken.items()
    }


def columns(transactions: list[Transaction]) -> NetworkColumns:
    return NetworkColumns(
        seen=np.array([tx.seen_at.timestamp() for tx in transactions], np.float64),
        value_sat=np.array([tx.value_sat for tx in transactions], np.int64),
        fee_rate=np.array([tx.fee_rate for tx in transactions], np.float64),
        input_count=np.array([tx.input_count for tx in transactions], np.int64),
        output_count=np.array([tx.output_count for tx in transactions], np.int64),
    )


def same(a: Any, b: Any) -> None:
    """Equal in every field, and NaN where the other is."""
    for name in (field.name for field in fields(a)):
        left, right = getattr(a, name), getattr(b, name)
        if isinstance(left, Coins):
            same(left, right)
        else:
            np.testing.assert_array_equal(left, right, err_msg=name)


@given(traffic=traffic())
@settings(max_examples=150)
def test_columns_read_from_the_store_are_those_of_the_transactions(
    connection: Connection, traffic: list[Transaction]
) -> None:
    with connection.transaction(force_rollback=True):
        land_transactions(connection, traffic)
        assert read_transactions(connection, T0, END) == traffic
        same(read_batch(connection, T0, END), TransactionBatch.of(traffic))


@given(traffic=traffic(min_size=2))
@settings(max_examples=60)
def test_what_addresses_did_is_what_counting_by_hand_gives_before_and_after_a_recovery(
    connection: Connection, traffic: list[Transaction]
) -> None:
    first, recovered = traffic[::2], traffic[1::2]
    everyone = {coin.addr for tx in traffic for coin in (*tx.inputs, *tx.outputs) if coin.addr is not None}
    with connection.transaction(force_rollback=True):
        land_transactions(connection, first)
        list(write_address_activity([connection], T0, END))
        before = publish_network_baseline(connection, T0, END)[-1]
        assert read_address_context(connection, before, everyone) == activity_by_hand(first, T0, END)

        land_transactions(connection, recovered)
        list(write_address_activity([connection], T0, END))
        assert read_address_context(connection, before, everyone) == activity_by_hand(first, T0, END), "as published"
        after = publish_network_baseline(connection, T0, END)[-1]
        assert read_address_context(connection, after, everyone) == activity_by_hand(traffic, T0, END)

        assert not any(written for _, written in write_address_activity([connection], T0, END)), (
            "nothing differs, nothing is written"
        )
        assert publish_network_baseline(connection, T0, END)[-1] == after


@given(traffic=traffic())
@settings(max_examples=60)
def test_the_network_is_counted_alike_from_rows_and_from_columns(
    connection: Connection, traffic: list[Transaction]
) -> None:
    with connection.transaction(force_rollback=True):
        land_transactions(connection, traffic)
        published = publish_network_baseline(connection, T0, END)
        assert list(read_network_contexts(connection, WINDOWS).values()) == published
    counted = network_contexts(network_buckets(columns(traffic), WINDOWS), WINDOWS)
    for context, expected in zip(published, counted, strict=True):
        for name in (field.name for field in fields(NetworkContext)):
            if name not in {"version", "publication"}:
                assert getattr(context, name) == getattr(expected, name), name
        assert context.version == 1


@given(traffic=traffic(min_size=1))
@settings(max_examples=40)
def test_stored_features_are_those_computed_from_transactions_and_a_context_by_hand(
    connection: Connection, traffic: list[Transaction]
) -> None:
    with connection.transaction(force_rollback=True):
        land_transactions(connection, traffic)
        networks = {context.as_of: context for context in materialize(connection, T0, END)}
        for window in {window_start(tx.seen_at) for tx in traffic}:
            here = [tx for tx in traffic if window <= tx.seen_at < window + WINDOW]
            as_of = context_window(window)
            network = networks.get(as_of, NetworkContext(as_of, version=0))
            seen = activity_by_hand(traffic, as_of + WINDOW - timedelta(days=1), as_of + WINDOW)
            expected = transaction_features(TransactionBatch.of(here), Context(network, seen))
            stored = read_features(connection, window)
            assert [tx.txid for tx in stored.transactions] == [tx.txid for tx in here]
            assert stored.context.network.version == network.version
            for i, name in enumerate(FEATURE_NAMES):
                np.testing.assert_array_equal(stored.features[:, i], expected[:, i], err_msg=name)
