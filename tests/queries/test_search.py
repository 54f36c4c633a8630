"""What a person types is found: the beginning of a txid, an address, a name."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from tests.builders import T0, transaction
from tests.databases import empty_tables
from txwatch.clock import WINDOW, window_start
from txwatch.labels.label import Label
from txwatch.labels.store import import_labels, watch
from txwatch.queries.search import Found, address_in, amounts, find, is_txid
from txwatch.store.database import Connection, connect
from txwatch.store.retention import ensure_days
from txwatch.store.transactions import land_transactions
from txwatch.wire.transaction import CreatedOutput, SpentOutput

ADDRESS, OTHER = "1BoatSLRHtKNngkdXEeobR76b53LETtpyT", "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq"
TXID = "ab" * 32
NOW = T0 + timedelta(minutes=1)


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    with connect(database_url) as connection:
        empty_tables(connection, "alerts, transactions, labels, watch_list, address_activity")
        with connection.transaction():
            import_labels(
                connection,
                [Label(ADDRESS, "a book", "Acme 100%", "exchange"), Label(OTHER, "a wiki", "Other", "mining_pool")],
                T0,
            )
            watch(connection, ADDRESS, "seen in 2016", T0)
        yield connection


def land(connection: Connection, txid: str, at: timedelta) -> None:
    spent = SpentOutput(ADDRESS, 5_000, "p2pkh", 0)
    paid = [CreatedOutput(OTHER, 3_000, "p2wpkh", 0), CreatedOutput(ADDRESS, 1_500, "p2pkh", 1)]
    with connection.transaction():
        land_transactions(connection, [transaction(txid=txid, seen_at=T0 + at, inputs=[spent], outputs=paid)])


def test_sums_that_no_number_of_the_database_holds_hide_no_address(connection: Connection) -> None:
    """Of coins that a source made up, where one that is not known keeps the others from being summed up."""
    spent = [SpentOutput(ADDRESS, 2_100_000_000_000_000, "p2pkh", n) for n in range(5_000)]
    with connection.transaction():
        land_transactions(connection, [transaction(txid=TXID, seen_at=T0, inputs=spent)])
    assert [one.spent_sat for one in find(connection, ADDRESS, NOW).of_address] == [2**63 - 1]


@pytest.mark.parametrize("typed", [TXID[:6], f"  {TXID[:20].upper()} ", TXID])
def test_six_digits_of_a_txid_are_enough(connection: Connection, typed: str) -> None:
    land(connection, TXID, timedelta())
    land(connection, "cd" * 32, timedelta(seconds=1))
    assert [one.txid for one in find(connection, typed, NOW).transactions] == [TXID]


def test_an_address_has_its_labels_and_its_newest_transactions(connection: Connection) -> None:
    land(connection, TXID, timedelta())
    found = find(connection, ADDRESS, NOW)
    (known,) = found.addresses
    assert (known.entity, known.category, known.source, known.watched) == (
        "Acme 100%",
        "exchange",
        "a book",
        "seen in 2016",
    )
    (move,) = found.of_address
    assert (move.txid, move.received_sat, move.spent_sat, move.alerted) == (TXID, 1_500, 5_000, False)
    (paid,) = find(connection, OTHER.upper(), NOW).of_address
    assert (paid.received_sat, paid.spent_sat) == (3_000, 0), "an address of segwit in any case"


def test_older_transactions_of_an_address_are_found_by_its_active_windows(connection: Connection) -> None:
    land(connection, TXID, timedelta())
    later = NOW + timedelta(hours=3)
    assert find(connection, ADDRESS, later).of_address == []
    ensure_days(connection, "address_activity", window_start(T0), window_start(T0) + WINDOW)
    connection.execute(
        "INSERT INTO address_activity (address, window_start, written, tx_count, received_sat, spent_sat,"
        " first_seen_at, last_seen_at) VALUES (%s, %s, 1, 1, 1500, 5000, %s, %s)",
        [ADDRESS, window_start(T0), T0, T0],
    )
    assert [one.txid for one in find(connection, ADDRESS, later).of_address] == [TXID]


@pytest.mark.parametrize(
    ("typed", "entities"), [("acme", ["Acme 100%"]), ("100%", ["Acme 100%"]), ("e%", []), ("a", [])]
)
def test_a_part_of_a_name_is_found_and_is_no_pattern(connection: Connection, typed: str, entities: list[str]) -> None:
    assert [one.entity for one in find(connection, typed, NOW).entities] == entities


@pytest.mark.parametrize("typed", ["", "x", "'; DROP TABLE labels; --", "zz" * 32, "\x00"])
def test_what_is_not_there_is_not_found(connection: Connection, typed: str) -> None:
    assert find(connection, typed, NOW) == Found([], [], [], [])


def test_a_txid_is_sixty_four_digits() -> None:
    assert is_txid(TXID)
    assert not is_txid(TXID[:-1])
    assert not is_txid("g" * 64)


@pytest.mark.parametrize(
    ("typed", "satoshi"),
    [
        ("12.5-13 BTC", (1_250_000_000, 1_300_000_000)),
        (" 1,000 .. 2,000.5btc", (100_000_000_000, 200_050_000_000)),
        ("0.00000001 to 1 BTC", (1, 100_000_000)),
        ("13-12.5 BTC", None),
        ("1-22000000 BTC", None),
        ("12.5-13", None),
        ("12.5 BTC", None),
    ],
)
def test_a_range_of_amounts_is_told_from_other_texts(typed: str, satoshi: tuple[int, int] | None) -> None:
    assert amounts(typed) == satoshi


def test_a_range_of_amounts_finds_transactions(connection: Connection) -> None:
    for n in range(3):
        at = T0 + timedelta(seconds=n)
        with connection.transaction():
            land_transactions(connection, [transaction(txid=f"{n:064x}", seen_at=at, value_sat=100_000_000 * (n + 1))])
    assert [one.value_sat for one in find(connection, "1.5-3 BTC", NOW).transactions] == [300_000_000, 200_000_000]
    assert find(connection, "4-5 BTC", NOW) == Found([], [], [], [])


def test_an_address_is_read_as_sources_write_it() -> None:
    assert address_in(OTHER.upper()) == OTHER
    assert address_in(ADDRESS) == ADDRESS
    assert address_in(TXID) is None
