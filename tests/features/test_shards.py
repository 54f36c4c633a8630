"""Several connections write what one writes, to the last digit, and nobody ever sums what only some of them wrote."""

import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime, timedelta
from random import Random
from typing import LiteralString

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.builders import T0, transaction
from tests.waiting import wait_until
from txwatch.clock import WINDOW, window_range
from txwatch.features.addresses import Part, read_address_context, split, write_address_activity
from txwatch.features.network import publish_network_baseline
from txwatch.features.publications import next_publication, part_of, publishing
from txwatch.features.store import write_features
from txwatch.lab.simulator.traffic import Simulator
from txwatch.store.database import Connection, connect, scalar
from txwatch.store.retention import ensure_days
from txwatch.store.transactions import land_transactions
from txwatch.wire.transaction import Transaction

HOURS, RATE = 3, 0.25
LATE = T0 + timedelta(hours=1, minutes=20)
"""A window into which transactions come late."""
DERIVED = "address_activity, address_windows, network_baseline, transaction_features"
Rows = dict[str, list[tuple[object, ...]]]


def simulated(hours: float, rate: float) -> list[Transaction]:
    """Some hours of traffic from T0 on."""
    traffic = Simulator("2024-03", seed=11, start=T0, rate=rate).until(T0 + timedelta(hours=hours))
    return [one.transaction("bulk") for one in traffic]


@pytest.fixture(scope="module")
def traffic() -> list[Transaction]:
    return simulated(HOURS, RATE)


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    with connect(database_url) as connection:
        connection.execute(f"TRUNCATE transactions, open_publications, {DERIVED}")
        yield connection


@contextmanager
def connections(database_url: str, count: int) -> Iterator[list[Connection]]:
    with ExitStack() as stack:
        yield [stack.enter_context(connect(database_url)) for _ in range(count)]


def land(connection: Connection, transactions: Sequence[Transaction]) -> None:
    with connection.transaction():
        land_transactions(connection, transactions)


def compute(database_url: str, shards: int, start: datetime, end: datetime) -> int:
    """What a run of the window lane does with so many shards. Gives how many buckets were written."""
    with connections(database_url, shards) as slots:
        written = sum(sum(of.values()) for _, of in write_address_activity(slots, start, end))
        publish_network_baseline(slots[0], start, end)
        for _ in write_features(slots[0], start, end):
            pass
    return written


STORED = {
    "buckets": "SELECT address, window_start, tx_count, received_sat, spent_sat, first_seen_at, last_seen_at,"
    " superseded IS NULL, row_number() OVER (PARTITION BY address, window_start ORDER BY written)"
    " FROM address_activity",
    "contexts": "SELECT to_jsonb(b) - 'publication' - 'computed_at' FROM network_baseline AS b",
    "features": "SELECT f FROM transaction_features AS f",
    "windows": "SELECT window_start FROM address_windows",
    "sums": "SELECT window_start, context_version, address, sum(bucket.tx_count), sum(received_sat), sum(spent_sat),"
    " min(first_seen_at), max(last_seen_at) FROM network_baseline JOIN address_activity AS bucket USING (window_start)"
    " WHERE written <= publication AND (superseded IS NULL OR superseded > publication) GROUP BY 1, 2, 3",
}


def stored(connection: Connection) -> Rows:
    """All that was derived, as text, in which NaN equals NaN; of publications their order, not their numbers."""
    return {
        name: connection.execute(f"SELECT t::text FROM ({query}) AS t ORDER BY 1").fetchall()  # noqa: S608
        for name, query in STORED.items()
    }


def live_through(database_url: str, traffic: list[Transaction], hours: int, shards: Sequence[int]) -> Rows:
    """What is stored after all that happens to some hours; each step is done with the next of these numbers."""
    steps = iter(shards)
    begin, end = T0, T0 + timedelta(hours=hours)
    late = [tx for tx in traffic if LATE <= tx.seen_at < LATE + WINDOW][::2]
    with connect(database_url) as connection:
        connection.execute(f"TRUNCATE transactions, {DERIVED}")
        land(connection, [tx for tx in traffic if tx not in late])
        # A backfill, and then windows one by one, as they are sealed.
        live = end - 3 * WINDOW
        compute(database_url, next(steps), begin, live)
        for window in window_range(live, end):
            compute(database_url, next(steps), window, window + WINDOW)
        land(connection, late)
        assert compute(database_url, next(steps), LATE, LATE + WINDOW) > 0, "what came late was written"
        assert compute(database_url, next(steps), LATE - 2 * WINDOW, LATE + 2 * WINDOW) == 0
        assert compute(database_url, next(steps), begin, end) == 0, "what is computed again is as it was"
        return stored(connection)


STEPS = 7


@pytest.fixture(scope="module")
def of_one(database_url: str, traffic: list[Transaction]) -> Rows:
    rows = live_through(database_url, traffic, HOURS, [1] * STEPS)
    assert all(rows.values())
    assert any(row[0].endswith(",f,1)") for row in rows["buckets"]), "some buckets were superseded"
    return rows


@pytest.mark.parametrize("shards", [[2] * STEPS, [4] * STEPS, [7] * STEPS, [3, 1, 2, 5, 4, 1, 6]], ids=str)
def test_shards_give_the_rows_of_one(
    database_url: str, traffic: list[Transaction], of_one: Rows, shards: list[int]
) -> None:
    assert live_through(database_url, traffic, HOURS, shards) == of_one


@pytest.mark.soak
def test_four_shards_give_the_rows_of_one_for_a_day(database_url: str) -> None:
    day = simulated(24, 0.3)
    of_one = live_through(database_url, day, 24, [1] * STEPS)
    assert live_through(database_url, day, 24, [4, 4, 2, 4, 4, 3, 4]) == of_one


@given(windows=st.integers(1, 40), count=st.integers(1, 12))
def test_each_window_and_address_belongs_to_one_part(windows: int, count: int) -> None:
    parts = split(T0, T0 + windows * WINDOW, count)
    assert len(parts) == count
    covered = sorted((window, part.shard) for part in parts for window in window_range(part.start, part.end))
    shards = count if windows < count else 1
    assert {part.shards for part in parts} == {shards}
    assert covered == [(w, shard) for w in window_range(T0, T0 + windows * WINDOW) for shard in range(shards)]


def test_a_window_alone_is_split_by_address_and_many_windows_by_time() -> None:
    assert split(T0, T0 + WINDOW, 2) == [Part(T0, T0 + WINDOW, 0, 2), Part(T0, T0 + WINDOW, 1, 2)]
    assert split(T0, T0 + 2 * WINDOW, 2) == [Part(T0, T0 + WINDOW), Part(T0 + WINDOW, T0 + 2 * WINDOW)]


def test_all_parts_read_one_snapshot(database_url: str, connection: Connection) -> None:
    count = "SELECT count(*) FROM transactions"
    with connections(database_url, 2) as (first, second):
        with publishing(first, T0, T0 + WINDOW, shared=True, durable=True) as one:
            land(connection, [transaction()])
            with part_of(second, one):
                assert (scalar(first, count), scalar(second, count)) == (0, 0), "it is in no part, not in some"
        assert scalar(second, count) == 1


def test_who_takes_the_next_number_waits_for_a_part_of_a_lost_publication_and_undoes_it(
    database_url: str, connection: Connection
) -> None:
    land(connection, [transaction()])
    ensure_days(connection, "address_activity", T0, T0 + WINDOW)
    with connections(database_url, 3) as (first, second, third):
        third.execute("SET lock_timeout = '1ms'")
        lost = publishing(first, T0, T0 + WINDOW, shared=True, durable=True)
        one = lost.__enter__()
        with part_of(second, one):
            write_bucket(second, one.number)
            end_session(connection, first)
            wait_until(lambda: holds_nothing(connection), "the lost connection gave up its lock")
            with pytest.raises(psycopg.errors.LockNotAvailable), third.transaction():
                next_publication(third)
        assert scalar(connection, "SELECT count(*) FROM address_activity") == 1, "a part without the whole"
        with third.transaction():
            assert next_publication(third) > one.number
        assert scalar(connection, "SELECT count(*) FROM address_activity") == 0
        with (
            pytest.raises((psycopg.errors.InvalidParameterValue, psycopg.errors.UndefinedObject)),
            part_of(second, one),
        ):
            pass
        with pytest.raises(psycopg.OperationalError):
            lost.__exit__(None, None, None)


def write_bucket(connection: Connection, number: int) -> None:
    connection.execute(
        "INSERT INTO address_activity VALUES ('bc1qany', %s, %s, NULL, 1, 1, 1, %s, %s)", [T0, number, T0, T0]
    )


def end_session(connection: Connection, other: Connection) -> None:
    connection.execute("SELECT pg_terminate_backend(%s)", [other.info.backend_pid])


LOCKS: LiteralString = (
    "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database"
    " WHERE datname = current_database() AND "
)


def holds_nothing(connection: Connection) -> bool:
    return scalar(connection, LOCKS + "locktype = 'advisory'") == 0


WRITER = """
import sys
from contextlib import ExitStack
from datetime import datetime
from txwatch.features.addresses import write_address_activity
from txwatch.store.database import connect
url, shards, start, end = sys.argv[1:]
with ExitStack() as stack:
    slots = [stack.enter_context(connect(url)) for _ in range(int(shards))]
    for _ in write_address_activity(slots, datetime.fromisoformat(start), datetime.fromisoformat(end)):
        pass
"""


@contextmanager
def writer(database_url: str, shards: int, start: datetime, end: datetime) -> Iterator[subprocess.Popen[bytes]]:
    """A process that writes the buckets of these windows, killed with the end of the block."""
    arguments = [database_url, str(shards), start.isoformat(), end.isoformat()]
    with subprocess.Popen([sys.executable, "-c", WRITER, *arguments]) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGKILL)


@pytest.mark.parametrize("rewrites", [False, True], ids=["what is new", "what came late"])
@pytest.mark.parametrize("windows", [1, 12], ids=["by address", "by time"])
def test_what_a_killed_process_left_half_written_is_in_no_context(
    database_url: str, connection: Connection, traffic: list[Transaction], windows: int, rewrites: bool
) -> None:
    start, end = LATE, LATE + windows * WINDOW
    here = [tx for tx in traffic if start <= tx.seen_at < end]
    everyone = {coin.addr for tx in here for coin in (*tx.inputs, *tx.outputs) if coin.addr is not None}
    if rewrites:
        land(connection, here[::2])
        compute(database_url, 2, start, end)
    before = stored(connection)
    land(connection, here)

    with connect(database_url) as blocking, blocking.transaction(force_rollback=True):
        blocking.execute("LOCK TABLE address_windows IN SHARE MODE")  # which marks wait for
        with writer(database_url, 3, start, end):
            wait_until(lambda: waits_for_a_table(connection), "all parts but the first one have committed")
            assert stored(connection)["buckets"] != before["buckets"], "some of it can be seen"
    *_, context = publish_network_baseline(connection, start, end)
    after = stored(connection)
    assert after["buckets"] == before["buckets"], "it was undone before the context was published"
    assert scalar(connection, "SELECT count(*) FROM open_publications") == 0
    sums = read_address_context(connection, context, everyone)
    assert bool(sums) == rewrites

    compute(database_url, 2, start, end)
    again = stored(connection)
    connection.execute(f"TRUNCATE {DERIVED}")
    compute(database_url, 1, start, end)
    newest = {row for row in again["buckets"] if ",t," in row[0]}
    assert {row[0].rpartition(",")[0] for row in newest} == {
        row[0].rpartition(",")[0] for row in stored(connection)["buckets"]
    }


def waits_for_a_table(connection: Connection) -> bool:
    return bool(scalar(connection, LOCKS + "relation = 'address_windows'::regclass AND NOT granted"))


@pytest.mark.soak
def test_a_process_killed_at_any_moment_leaves_each_publication_whole_or_none(
    database_url: str, connection: Connection
) -> None:
    hours, random = 6, Random(5)  # noqa: S311
    land(connection, simulated(hours, 2.0))
    begin, end = T0, T0 + timedelta(hours=hours)
    compute(database_url, 1, begin, end)
    expected = stored(connection)
    by_window = "SELECT window_start, count(*) FROM address_activity GROUP BY 1"
    whole = dict(connection.execute(by_window).fetchall())
    halves = 0
    for _ in range(30):
        connection.execute(f"TRUNCATE {DERIVED}")
        with writer(database_url, 4, begin, end) as process:
            wait_until(
                lambda: scalar(connection, "SELECT count(*) FROM open_publications"), "it has begun", look_every=0
            )
            with suppress(subprocess.TimeoutExpired):
                process.wait(random.uniform(0, 2))
        with connection.transaction():
            halves += scalar(connection, "SELECT count(*) FROM open_publications WHERE window_end <= %s", [end])
            next_publication(connection)
        marked = {row[0] for row in connection.execute("SELECT window_start FROM address_windows").fetchall()}
        assert dict(connection.execute(by_window).fetchall()) == {w: n for w, n in whole.items() if w in marked}
    assert halves, "at least one was killed while it wrote"
    compute(database_url, 4, begin, end)
    assert stored(connection) == expected
