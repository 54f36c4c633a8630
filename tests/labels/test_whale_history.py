"""The history of whales, by flow, entity and time, and after labels came to be known."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from tests.builders import T0, transaction
from tests.databases import empty_tables
from txwatch.labels.label import Label
from txwatch.labels.store import import_labels
from txwatch.labels.whales import (
    EntityTotal,
    FlowTotal,
    RecordedWhale,
    entity_totals,
    flow_totals,
    largest_whale_moves,
    list_whale_moves,
    reclassify_whales,
    record_whales,
)
from txwatch.store.database import Connection, connect
from txwatch.store.prices import insert_price
from txwatch.store.transactions import land_transactions
from txwatch.wire.prices import Price
from txwatch.wire.transaction import CreatedOutput, SpentOutput

BTC = 100_000_000
MINUTE = timedelta(minutes=1)
LABELS = [Label("acme", "book", "Acme", "exchange"), Label("kraken", "explorer", "Kraken", "exchange")]
MOVES = [("someone", "acme", 600), ("acme", "someone", 700), ("acme", "kraken", 800), ("someone", "another", 900)]
"""From, to, and BTC; a minute apart, with the txids 1, 2, ..."""


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    with connect(database_url) as connection:
        empty_tables(connection, "labels, label_changes, whale_moves, transactions")
        with connection.transaction():
            land_transactions(
                connection,
                [
                    transaction(
                        txid=str(n),
                        seen_at=T0 + n * MINUTE,
                        inputs=[SpentOutput(source, btc * BTC, "p2wpkh", 0)],
                        outputs=[CreatedOutput(target, btc * BTC, "p2wpkh", 0)],
                    )
                    for n, (source, target, btc) in enumerate(MOVES, start=1)
                ],
            )
            record_whales(connection, {str(n): btc * BTC for n, (_, _, btc) in enumerate(MOVES, start=1)})
        yield connection


def label_them(connection: Connection) -> None:
    with connection.transaction():
        import_labels(connection, LABELS, T0)
        reclassify_whales(connection)


def txids(moves: list[RecordedWhale]) -> list[str]:
    return [move.txid for move in moves]


def test_labels_that_come_later_tell_the_flow_of_whales_before(connection: Connection) -> None:
    assert {move.flow for move in list_whale_moves(connection)} == {"unknown"}
    label_them(connection)
    moves = list_whale_moves(connection)
    assert txids(moves) == ["4", "3", "2", "1"]
    assert [move.flow for move in moves] == ["unknown", "exchange_to_exchange", "exchange_out", "exchange_in"]
    assert (moves[1].senders, moves[1].receivers, moves[1].sources) == (["Acme"], ["Kraken"], ["book", "explorer"])
    assert (moves[1].moved_sat, moves[1].fee_sat, moves[1].confirmed_height) == (800 * BTC, 1_220, None)


def test_the_history_is_read_by_flow_entity_amount_and_time_page_by_page(connection: Connection) -> None:
    label_them(connection)
    assert txids(list_whale_moves(connection, flow="exchange_in")) == ["1"]
    assert txids(list_whale_moves(connection, entity="Acme")) == ["3", "2", "1"]
    assert txids(list_whale_moves(connection, entity="Acme", since=T0 + 2 * MINUTE, until=T0 + 3 * MINUTE)) == ["2"]
    assert txids(list_whale_moves(connection, min_moved_sat=800 * BTC)) == ["4", "3"]
    first = list_whale_moves(connection, limit=3)
    rest = list_whale_moves(connection, limit=3, before=(first[-1].seen_at, first[-1].txid))
    assert txids(first + rest) == ["4", "3", "2", "1"]
    assert txids(largest_whale_moves(connection, T0, limit=2)) == ["4", "3"]


def test_totals_say_what_went_in_and_out_of_whom(connection: Connection) -> None:
    label_them(connection)
    until = T0 + 60 * MINUTE
    assert flow_totals(connection, T0, until) == [
        FlowTotal("unknown", 1, 900 * BTC),
        FlowTotal("exchange_to_exchange", 1, 800 * BTC),
        FlowTotal("exchange_out", 1, 700 * BTC),
        FlowTotal("exchange_in", 1, 600 * BTC),
    ]
    assert entity_totals(connection, T0, until) == [
        EntityTotal("Acme", 600 * BTC, 1_500 * BTC, 3),
        EntityTotal("Kraken", 800 * BTC, 0, 1),
    ]


def test_whales_outlive_their_transactions(connection: Connection) -> None:
    connection.execute("DELETE FROM transactions WHERE txid = '4'")
    label_them(connection)
    (newest, *_) = list_whale_moves(connection)
    assert (newest.txid, newest.moved_sat, newest.value_sat) == ("4", 900 * BTC, None)


def test_whales_keep_what_they_were_worth(connection: Connection) -> None:
    empty_tables(connection, "whale_moves, usd_prices")
    insert_price(connection, Price(68_000, T0 + 2 * MINUTE, "mempool.space"), T0 + 2 * MINUTE)
    record_whales(connection, {"1": 600 * BTC, "2": 700 * BTC})
    empty_tables(connection, "usd_prices")
    label_them(connection)
    newest, oldest = list_whale_moves(connection)
    assert (newest.usd_price, newest.moved_usd) == (68_000, 47_600_000)
    assert (oldest.usd_price, oldest.moved_usd) == (None, None)
    assert largest_whale_moves(connection, T0) == [newest, oldest]


def test_amounts_that_nobody_can_own_stop_at_the_end_of_a_bigint(connection: Connection) -> None:
    connection.execute(
        "INSERT INTO whale_moves (txid, seen_at, moved_sat, flow, senders, receivers, sources)"
        " SELECT 'hostile ' || n, %s, 2100000000000000, 'exchange_in', '{}', '{Acme}', '{}'"
        " FROM generate_series(1, 4400) AS n",
        [T0],
    )
    most = 2**63 - 1
    assert FlowTotal("exchange_in", 4400, most) in flow_totals(connection, T0, T0 + MINUTE)
    assert entity_totals(connection, T0, T0 + MINUTE) == [EntityTotal("Acme", most, 0, 4400)]
