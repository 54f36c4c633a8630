"""`transaction_scores`: the champion's scores of whole windows, checked and insert-only."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from tests.builders import transaction
from tests.conftest import History, Installation
from tests.materializing import checks, materialize, metadata_by_window
from txwatch.clock import WINDOW
from txwatch.detection.score_windows import MAX_EXAMPLES
from txwatch.store.database import connect
from txwatch.store.transactions import land_transactions


@pytest.fixture(scope="module")
def template(championed: str) -> str:
    """There is a champion, and the history has features."""
    return championed


def stored(installation: Installation) -> Sequence[tuple[Any, ...]]:
    with connect(installation.database_url) as connection:
        return connection.execute("SELECT * FROM transaction_scores ORDER BY txid, model_version").fetchall()


def landed_in(installation: Installation, start: datetime, end: datetime) -> int:
    with connect(installation.database_url) as connection:
        row = connection.execute(
            "SELECT count(*) FROM transactions WHERE seen_at >= %s AND seen_at < %s", [start, end]
        ).fetchone()
    return int(row[0])


def written(result: dg.ExecuteInProcessResult) -> list[int]:
    return [of_window["written"] for of_window in metadata_by_window(result, "transaction_scores").values()]


def test_a_range_of_windows_is_scored_in_one_run_and_repeating_it_changes_nothing(
    installation: Installation, dagster_instance: dg.DagsterInstance, history: History
) -> None:
    windows = history.windows[2:5]
    result = materialize(dagster_instance, "transaction_scores", windows=windows)
    assert result.success
    figures, rows = metadata_by_window(result, "transaction_scores"), stored(installation)
    for window, of_window in figures.items():
        landed = landed_in(installation, window, window + WINDOW)
        assert (of_window["scored"], of_window["written"], of_window["model_version"]) == (landed, landed, "1")
    assert sum(of_window["scored"] for of_window in figures.values()) == len(rows)
    anomalies = sum(of_window["anomalies"] for of_window in figures.values())
    assert 0 < anomalies < len(rows) / 50  # dust storms are tens at once
    tables = [of_window["unusual"].splitlines()[2:] for of_window in figures.values()]
    assert [len(table) for table in tables] == [min(f["anomalies"], MAX_EXAMPLES) for f in figures.values()]
    assert checks(result)["every_transaction_is_scored"].passed
    with connect(installation.database_url) as connection:
        # They end with the last window before the session, so that they are recent.
        followed = connection.execute("SELECT DISTINCT model_version FROM recent_scores WHERE rows > 0").fetchall()
    assert followed == [("1",)]

    again = materialize(dagster_instance, "transaction_scores", windows=windows)
    assert written(again) == [0, 0, 0]
    assert stored(installation) == rows

    wider = materialize(dagster_instance, "transaction_scores", windows=history.windows[2:6])
    assert written(wider) == [0, 0, 0, landed_in(installation, history.windows[5], history.windows[6])]
    later = {row[0]: row for row in stored(installation)}
    assert [later[row[0]] for row in rows] == rows, "what was sent is never changed"


def test_a_transaction_that_landed_after_its_features_is_named_by_the_check(
    installation: Installation, dagster_instance: dg.DagsterInstance, history: History
) -> None:
    window = history.windows[7]
    late = transaction(txid="f" * 64, seen_at=window + timedelta(seconds=1))
    with connect(installation.database_url) as connection, connection.transaction():
        land_transactions(connection, [late])
    result = materialize(dagster_instance, "transaction_scores", windows=[window])
    check = checks(result)["every_transaction_is_scored"]
    assert not check.passed
    assert check.metadata["without_features"].value == 1
    assert late.txid not in {row[0] for row in stored(installation)}
