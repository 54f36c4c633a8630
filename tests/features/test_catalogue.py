"""Feast on the product's own tables: applied as often as one likes, and read by range of time."""

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from feature_repo.apply import apply
from tests.conftest import History, Installation
from txwatch.features.contract import FEATURE_NAMES
from txwatch.features.feast import FEATURE_SERVICE, feast_environment, open_feature_store, training_features
from txwatch.store.database import connect
from txwatch.system.environment import PROJECT


@pytest.fixture(scope="module")
def template(featured: str) -> str:
    """The catalogue was applied once, and the history has features."""
    return featured


def test_applying_it_again_changes_nothing(installation: Installation) -> None:
    def catalogue() -> tuple[set[str], set[str], set[str]]:
        store = open_feature_store(installation.database_url)
        return (
            {entity.name for entity in store.list_entities()},
            {view.name for view in store.list_feature_views()},
            {service.name for service in store.list_feature_services()},
        )

    before = catalogue()
    apply(installation.database_url)
    assert catalogue() == before
    entities, views, services = before
    assert {"transaction", "address", "network"} <= entities
    assert views == {"transaction_features", "network_context", "address_activity"}
    assert services == {FEATURE_SERVICE}


def test_training_features_are_the_stored_rows_in_order_without_the_end(installation: Installation) -> None:
    with connect(installation.database_url) as connection:
        # From one transaction to another: the first belongs to the range, the second does not.
        (start,), (end,) = connection.execute(
            "SELECT seen_at FROM transaction_features ORDER BY seen_at LIMIT 2 OFFSET 100"
        ).fetchall()
        (end,) = connection.execute(
            "SELECT seen_at FROM transaction_features WHERE seen_at > %s ORDER BY seen_at LIMIT 1 OFFSET 3000", [end]
        ).fetchone()
        rows = connection.execute(
            f"SELECT seen_at, txid, {', '.join(FEATURE_NAMES)} FROM transaction_features"  # noqa: S608
            " WHERE seen_at >= %s AND seen_at < %s ORDER BY seen_at, txid",
            [start, end],
            binary=True,
        ).fetchall()
    frame = training_features(open_feature_store(installation.database_url), start, end)
    assert len(frame) == len(rows) == 3002
    assert list(frame["txid"]) == [row[1] for row in rows]
    assert [moment.to_pydatetime() for moment in frame["seen_at"]] == [row[0] for row in rows]
    # As text, in which NaN equals NaN.
    assert frame[list(FEATURE_NAMES)].to_numpy().tolist().__repr__() == [list(row[2:]) for row in rows].__repr__()


def test_a_range_without_traffic_gives_no_rows_but_all_columns(installation: Installation, history: History) -> None:
    store = open_feature_store(installation.database_url)
    frame = training_features(store, history.start - timedelta(hours=3), history.start)
    assert len(frame) == 0
    assert {"seen_at", "txid", *FEATURE_NAMES} <= set(frame.columns)


def test_the_feast_command_works_in_the_environment_of_the_system(installation: Installation) -> None:
    feast = Path(sys.executable).with_name("feast")
    listed = subprocess.run(
        [feast, "-c", "feature_repo", "feature-views", "list"],
        env=installation.environment,
        cwd=PROJECT,
        capture_output=True,
        text=True,
    )
    assert listed.returncode == 0, listed.stderr
    for view in "transaction_features", "network_context", "address_activity":
        assert view in listed.stdout


def test_a_database_url_is_taken_apart_for_feast() -> None:
    environment = feast_environment("postgresql://somebody:p%40ss@db.example:6432/watch")
    assert environment["FEAST_DB_HOST"] == "db.example"
    assert environment["FEAST_DB_PORT"] == "6432"
    assert (environment["FEAST_DB_NAME"], environment["FEAST_DB_USER"]) == ("watch", "somebody")
    assert environment["FEAST_DB_PASSWORD"] == "p@ss"
    assert environment["FEAST_REGISTRY_URL"].startswith("postgresql+psycopg://somebody:p%40ss@db.example:6432/watch?")
