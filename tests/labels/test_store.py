"""Labels, watch list and the history of whales in Postgres: importing twice changes nothing, and everyone sees it."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from tests.builders import T0
from tests.databases import empty_tables
from txwatch.detection.rules import CurrentDetectors, WatchListed
from txwatch.labels.label import Label
from txwatch.labels.store import (
    Imported,
    import_labels,
    read_known,
    read_version,
    read_watch_list,
    unwatch,
    watch,
    watch_all,
)
from txwatch.store.database import Connection, connect, statement

ACME = Label("acme-hot", "book", "Acme", "exchange", "service_data", "hot wallet")
KRAKEN = Label("kraken", "explorer", "Kraken", "exchange")


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    with connect(database_url) as connection:
        empty_tables(connection, "labels, watch_list, label_changes")
        yield connection


def imported(connection: Connection, *labels: Label, days: int = 0) -> Imported:
    with connection.transaction():
        return import_labels(connection, labels, T0 + timedelta(days=days))


def test_importing_again_changes_nothing_and_what_changed_is_updated(connection: Connection) -> None:
    assert imported(connection, ACME, KRAKEN) == Imported(2, 0, 0)
    assert read_version(connection) == 1
    assert imported(connection, ACME, KRAKEN, days=1) == Imported(0, 0, 2)
    assert read_version(connection) == 1
    other = Label("acme-hot", "book", "Acme Ltd", "exchange")
    assert imported(connection, ACME, other, days=2) == Imported(0, 1, 0), "of one address and source the last counts"
    assert read_known(connection, ["acme-hot", "nobody"])["acme-hot"].labels == (other,)
    assert read_known(connection, []) == {}
    rows = connection.execute("SELECT address, imported_at FROM labels ORDER BY 1").fetchall()
    assert rows == [("acme-hot", T0 + timedelta(days=2)), ("kraken", T0)]


def test_files_of_one_transaction_are_counted_each_for_itself(connection: Connection) -> None:
    with connection.transaction():
        assert import_labels(connection, [ACME], T0) == Imported(1, 0, 0)
        assert import_labels(connection, [KRAKEN], T0) == Imported(1, 0, 0)


def test_an_import_that_fails_leaves_nothing(connection: Connection) -> None:
    with connection.transaction(force_rollback=True):
        import_labels(connection, [ACME], T0)
    assert read_known(connection, ["acme-hot"]) == {}
    assert imported(connection, KRAKEN) == Imported(1, 0, 0), "what was staged is gone as well"


def rows_touched(plan: dict[str, Any]) -> float:
    """The rows that a plan's nodes read, gave or threw away, each as often as it did."""
    own = sum(plan.get(name, 0) for name in ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Join Filter"))
    return float(own * plan["Actual Loops"] + sum(map(rows_touched, plan.get("Plans", []))))


def test_the_work_of_an_import_grows_with_its_labels_and_no_faster(connection: Connection) -> None:
    for count in 1_000, 30_000:
        many = [Label(f"of {count}, {n}", "cluster", f"entity {n % 50}") for n in range(count)]
        with connection.transaction(force_rollback=True):
            # The same labels again, which are staged once more by then and are all known.
            assert import_labels(connection, many, T0) == Imported(count, 0, 0)
            explain = "EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) " + statement("labels", "import_labels")
            [[[explained]]] = connection.execute(explain, {"now": T0}).fetchall()
        assert count <= rows_touched(explained["Plan"]) < 20 * count


def test_the_watch_list_keeps_notes_and_detectors_follow_it(connection: Connection) -> None:
    detectors = CurrentDetectors(500)

    def watched() -> dict[str, str]:
        (detector,) = [d for d in detectors(connection) if isinstance(d, WatchListed)]
        return dict(detector.known)

    assert watched() == {}
    first = detectors(connection)
    assert detectors(connection) is first, "nothing has changed"
    watch(connection, "thief", "taken in 2016", T0)
    assert watched() == {"thief": "taken in 2016"}
    assert watch_all(connection, [Label("thief", "list", "Somebody"), Label("mixer", "list", "Mixer")], T0) == 1
    assert read_watch_list(connection) == watched() == {"mixer": "Mixer", "thief": "taken in 2016"}
    assert unwatch(connection, "thief", T0)
    assert not unwatch(connection, "thief", T0)
    assert watched() == {"mixer": "Mixer"}
