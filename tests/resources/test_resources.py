"""The resources give the engine's objects, and show no secret."""

from datetime import timedelta

import pytest

from resources.database import DatabaseResource
from resources.feature_store import FeatureStoreResource
from resources.ingestion import IngestionResource
from resources.model_registry import ModelRegistryResource
from resources.telegram import TelegramResource
from tests.builders import T0
from tests.waiting import wait_until
from txwatch.features.contract import FEATURE_NAMES
from txwatch.settings import Settings
from txwatch.store.database import connect

SECRET_URL = "postgresql://somebody:sesame@127.0.0.1:1/nowhere"


def test_the_database_gives_connections_in_utc(database_url: str) -> None:
    with DatabaseResource(url=database_url).connect() as connection:
        assert connection.execute("SHOW TIME ZONE").fetchone() == ("UTC",)
        assert connection.autocommit


def test_the_database_keeps_its_connections_and_leaves_them_as_they_were(database_url: str) -> None:
    database = DatabaseResource(url=database_url)
    with database.connect() as first:
        first.execute("CREATE TEMPORARY TABLE left_behind (id int)")
        first.execute("SELECT set_config('application_name', 'another', false)")

    def is_given_again() -> bool:
        with database.connect() as second:
            assert second.execute("SELECT to_regclass('left_behind')").fetchone() == (None,)
            assert second.execute("SHOW application_name").fetchone() == ("txwatch dagster",)
            return second is first

    wait_until(is_given_again, "the connection is given again")


def test_a_statement_that_psycopg_prepares_by_itself_works_in_later_blocks(database_url: str) -> None:
    database = DatabaseResource(url=database_url)
    for n in range(20):
        with database.connect() as connection:
            assert connection.execute("SELECT %s::int", [n]).fetchone() == (n,)


def test_a_connection_that_the_server_has_closed_is_not_given_out(database_url: str) -> None:
    database = DatabaseResource(url=database_url)
    with database.connect() as connection:
        process = connection.info.backend_pid
    with connect(database_url) as other:
        other.execute("SELECT pg_terminate_backend(%s, 10000)", [process])
    with database.connect() as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_the_catalogue_is_applied_by_who_needs_it_first(database_url: str) -> None:
    with connect(database_url) as connection:
        assert connection.execute("SELECT to_regclass('feast.feature_services')").fetchone() == (None,)
    feature_store = FeatureStoreResource(database_url=database_url)
    for _ in range(2):
        frame = feature_store.training_features(T0, T0 + timedelta(hours=1))
        assert frame.empty
        assert set(FEATURE_NAMES) <= set(frame.columns)


def ingestion() -> IngestionResource:
    registry_url = "https://somebody:sesame@127.0.0.1"
    return IngestionResource(
        database=DatabaseResource(url=SECRET_URL),
        model_registry=ModelRegistryResource(home=".", database_url=SECRET_URL, tracking_uri=registry_url),
        telegram=TelegramResource(token="1:sesame", chats=["1"]),
        sources=["blockchain.info"],
        stream_url="ws://127.0.0.1:1/inv",
        rest_url="http://127.0.0.1:1",
        bitcoin_rpc_url="http://watch:sesame@127.0.0.1:1",
        spool="spool",
        whale_btc=500,
        shift_minutes=30,
    )


def test_ingestion_gives_live_lanes_for_a_bounded_shift() -> None:
    worker = ingestion().lane("run 1").worker
    assert worker.database_url == SECRET_URL
    assert [source.name for source in worker.sources] == ["blockchain.info"]
    assert (worker.holder, worker.duration) == ("run 1", timedelta(minutes=30))
    assert "sesame" not in repr(worker)


@pytest.mark.parametrize(
    "resource",
    [
        DatabaseResource(url=SECRET_URL),
        ingestion(),
        ingestion().telegram.where,
        FeatureStoreResource(database_url=SECRET_URL),
        ModelRegistryResource(home=".", database_url=SECRET_URL, tracking_uri="https://somebody:sesame@127.0.0.1"),
        ModelRegistryResource(home=".", database_url=SECRET_URL).open(),
    ],
    ids=lambda resource: type(resource).__name__,
)
def test_no_password_is_shown(resource: object) -> None:
    assert "sesame" not in repr(resource)
    assert "sesame" not in str(resource)


def test_the_settings_show_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", SECRET_URL)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://somebody:sesame@127.0.0.1")
    assert "sesame" not in repr(Settings())
