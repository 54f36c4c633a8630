"""The features of one transaction, before and after its window is computed."""

from tests.populated import Populated
from txwatch.features.contract import FEATURE_NAMES
from txwatch.queries.transactions import read_feature_values
from txwatch.store.database import Connection, connect


def newest(connection: Connection, *, computed: bool) -> str:
    row = connection.execute(
        "SELECT txid FROM transactions WHERE (txid IN (SELECT txid FROM transaction_features)) = %s"
        " ORDER BY seen_at DESC LIMIT 1",
        [computed],
    ).fetchone()
    assert row is not None
    return str(row[0])


def test_they_are_there_before_the_window_is_computed(populated: Populated) -> None:
    with connect(populated.database_url) as connection:
        values = read_feature_values(connection, newest(connection, computed=False))
    assert [value.name for value in values] == list(FEATURE_NAMES)
    assert all(value.percentile is not None for value in values if value.value is not None)


def test_they_are_those_that_the_window_will_store(populated: Populated) -> None:
    with connect(populated.database_url) as connection:
        txid = newest(connection, computed=True)
        stored = read_feature_values(connection, txid)
        with connection.transaction(force_rollback=True):
            connection.execute("DELETE FROM transaction_features WHERE txid = %s", [txid])
            computed = read_feature_values(connection, txid)
    assert [one.value for one in computed] == [one.value for one in stored], "to the last digit"


def test_nothing_is_known_of_one_that_was_never_landed(populated: Populated) -> None:
    with connect(populated.database_url) as connection:
        assert read_feature_values(connection, "f" * 64) == []
