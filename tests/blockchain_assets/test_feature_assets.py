"""`network_baseline`, `address_activity` and `transaction_features` on the simulated history: each window is written
whole, from what it should see, and written again as it was."""

from collections.abc import Sequence
from typing import Any

import dagster as dg
import pytest

from tests.conftest import History, Installation
from tests.databases import empty_tables
from tests.materializing import checks, failure, materialize, metadata_by_window
from txwatch.clock import WINDOW, context_window
from txwatch.features.contract import FEATURE_NAMES, contract_fingerprint
from txwatch.store.database import connect

TABLES = {
    "network_baseline": "window_start, context_version, tx_count, value_sat, tx_count_1h, median_fee_rate_1h",
    "address_activity": "address, window_start, tx_count, received_sat, spent_sat, first_seen_at, last_seen_at",
    "transaction_features": f"txid, window_start, context_version, {', '.join(FEATURE_NAMES)}",
}


@pytest.fixture(scope="module")
def template(landed: str) -> str:
    """There is a simulated history."""
    return landed


def rows(installation: Installation, query: str, *values: object) -> Sequence[tuple[Any, ...]]:
    with connect(installation.database_url) as connection:
        return connection.execute(query, values).fetchall()


def stored(installation: Installation) -> dict[str, list[str]]:
    """All rows of each table as text, in which NaN equals NaN."""
    return {
        table: [str(row) for row in rows(installation, f"SELECT {columns} FROM {table} ORDER BY {columns}")]  # noqa: S608
        for table, columns in TABLES.items()
    }


def test_many_windows_in_one_run_are_what_each_is_alone(
    installation: Installation, dagster_instance: dg.DagsterInstance, history: History
) -> None:
    windows = history.windows[:4]
    for window in windows:
        assert materialize(dagster_instance, *TABLES, windows=[window]).success
    one_by_one = stored(installation)
    assert all(one_by_one.values())

    with connect(installation.database_url) as connection:
        connection.execute(f"TRUNCATE {', '.join(TABLES)}")
    assert materialize(dagster_instance, *TABLES, windows=windows).success
    assert stored(installation) == one_by_one

    assert materialize(dagster_instance, *TABLES, windows=windows[1:3]).success
    assert stored(installation) == one_by_one, "what is computed again is as it was"


def test_several_connections_write_the_same_rows(
    installation: Installation, dagster_instance: dg.DagsterInstance, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows = history.windows[:4]
    assert materialize(dagster_instance, *TABLES, windows=windows).success
    of_one = stored(installation)
    with connect(installation.database_url) as connection:
        connection.execute(f"TRUNCATE {', '.join(TABLES)}, address_windows")
    monkeypatch.setenv("TXWATCH_ADDRESS_SHARDS", "3")
    assert materialize(dagster_instance, *TABLES, windows=windows[:3]).success
    assert materialize(dagster_instance, *TABLES, windows=windows[3:]).success
    assert stored(installation) == of_one
    shared = "SELECT count(DISTINCT written) FROM address_activity"
    assert rows(installation, shared) == [(2,)], "all connections write under one number"


def test_the_metadata_say_what_was_written(
    installation: Installation, dagster_instance: dg.DagsterInstance, history: History
) -> None:
    windows = history.windows[4:6]
    result = materialize(dagster_instance, *TABLES, windows=windows)
    features = metadata_by_window(result, "transaction_features")
    activity = metadata_by_window(result, "address_activity")
    baseline = metadata_by_window(result, "network_baseline")
    for window in windows:
        end = window + WINDOW
        [[landed]] = rows(
            installation, "SELECT count(*) FROM transactions WHERE seen_at >= %s AND seen_at < %s", window, end
        )
        assert features[window] == {
            "dagster/partition_row_count": landed,
            "features": len(FEATURE_NAMES),
            "contract": contract_fingerprint(),
        }
        [[buckets]] = rows(installation, "SELECT count(*) FROM address_activity WHERE window_start = %s", window)
        assert activity[window] == {"buckets_written": buckets}
        [[before_end]] = rows(installation, "SELECT count(*) FROM transactions WHERE seen_at < %s", end)
        assert (baseline[window]["context_version"], baseline[window]["tx_count_1h"]) == (1, before_end)
        assert 10 < baseline[window]["median_fee_rate_1h_sat_per_vb"] < 20


def test_features_see_the_context_of_two_windows_before(installation: Installation, history: History) -> None:
    versions = dict(
        rows(installation, "SELECT window_start, min(context_version) FROM transaction_features GROUP BY window_start")
    )
    # Nothing was published before the first window.
    assert [versions[window] for window in history.windows[:6]] == [0, 0, 1, 1, 1, 1]
    window = history.windows[5]
    ratios = rows(
        installation,
        "SELECT DISTINCT fee_rate::float8 / fee_rate_over_median_1h FROM transaction_features"
        " WHERE window_start = %s AND fee_rate > 0",
        window,
    )
    [(median,)] = rows(
        installation, "SELECT median_fee_rate_1h FROM network_baseline WHERE window_start = %s", context_window(window)
    )
    assert [ratio for (ratio,) in ratios] == pytest.approx([median] * len(ratios))


def test_a_window_without_all_its_features_goes_no_further(
    installation: Installation, dagster_instance: dg.DagsterInstance, history: History
) -> None:
    windows = history.windows[6:7]
    [[txid]] = rows(
        installation, "SELECT txid FROM transactions WHERE seen_at >= %s ORDER BY seen_at, txid LIMIT 1", windows[0]
    )
    with connect(installation.database_url) as connection:
        connection.execute(
            "CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS"
            f" 'BEGIN IF NEW.txid = ''{txid}'' THEN RETURN NULL; END IF; RETURN NEW; END'"
        )
        connection.execute(
            "CREATE TRIGGER lose BEFORE INSERT ON transaction_features FOR EACH ROW EXECUTE FUNCTION lose()"
        )
    try:
        result = materialize(dagster_instance, *TABLES, "transaction_scores", windows=windows)
        assert not result.success
        check = checks(result)["every_transaction_has_features"]
        assert (check.passed, check.metadata["without_features"].value) == (False, 1)
        assert "every_transaction_has_features" in failure(result)
        assert not result.asset_materializations_for_node("transaction_scores")
        with connect(installation.database_url) as connection:
            connection.execute("INSERT INTO late_windows (window_start, reason) VALUES (%s, 'recovered')", [windows[0]])
        again = materialize(dagster_instance, *TABLES, windows=windows)
        assert again.success, "what came late is computed when its window is reported again"
    finally:
        with connect(installation.database_url) as connection:
            connection.execute("DROP TRIGGER lose ON transaction_features")
            empty_tables(connection, "late_windows")
