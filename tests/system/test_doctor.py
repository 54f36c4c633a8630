"""`txwatch doctor` finds what is missing, says it in plain words, and shows no secret."""

import socket
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner

from tests.archive.filled import drop_all, fill_day
from tests.buckets import environment_of, s3_server, using_s3
from tests.builders import T0
from tests.conftest import database_named
from tests.databases import LATER, LATEST, a_later_migration
from tests.sources.node import needs_node, running_node
from txwatch.cli import app
from txwatch.clock import Clock, utc_now
from txwatch.features.network import publish_network_baseline
from txwatch.lab.simulator.telegram import LocalTelegram
from txwatch.lab.simulator.telegram_server import TelegramServer
from txwatch.settings import Settings
from txwatch.store.database import connect
from txwatch.store.migrate import migrate
from txwatch.system import doctor
from txwatch.system.findings import Finding, Level

TOKEN, PASSWORD = "123456:very-secret", "hunter2-secret"


@pytest.fixture
def settings_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes settings from variables, without a `.env` or what this machine sets."""
    monkeypatch.chdir(tmp_path)

    def make(**variables: str) -> Settings:
        for name, value in {"TXWATCH_HOME": str(tmp_path / "home"), **variables}.items():
            monkeypatch.setenv(name, value)
        return Settings()

    return make


def texts(findings: list[Finding], level: Level) -> list[str]:
    return [f"{finding.what}: {finding.text}" for finding in findings if finding.level is level]


def refusing_port() -> int:
    """A port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def test_this_interpreter_and_its_packages_will_do() -> None:
    findings = list(doctor.look_at_python(Settings()))
    assert [finding.level for finding in findings] == [Level.good, Level.good]


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "importlib.metadata.requires", lambda _: ["no-such-package>=1", "httpx>=999", "click; extra == 'x'"]
    )
    assert list(doctor.missing_packages()) == ["no-such-package", "httpx>=999"]


def test_a_database_without_migrations_is_told_from_a_migrated_one(
    server_url: str, settings_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE doctor")
    url = database_named(server_url, "doctor")
    settings = settings_of(DATABASE_URL=url)
    before = list(doctor.look_at_database(settings))
    assert "migrations: the database has no tables of txwatch's" in texts(before, Level.wrong)
    assert {finding.remedy for finding in before if finding.level is Level.wrong} == {"run txwatch migrate"}
    migrate(url)
    after = list(doctor.look_at_database(settings))
    assert not texts(after, Level.wrong)
    assert texts(after, Level.note) == ["ingest: no worker ever ran on this database"]
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        [newer] = [one for one in doctor.look_at_database(settings) if one.level is Level.wrong]
        assert newer.text.startswith("the schema is 9999, which this program does not know")
        assert "Install that version" in newer.remedy
        connection.execute("UPDATE alembic_version SET version_num = %s", [LATEST])
    a_later_migration(tmp_path, monkeypatch)
    assert any(
        f"the schema is {LATEST}, this program's is {LATER}" in text
        for text in texts(list(doctor.look_at_database(settings)), Level.wrong)
    )


@pytest.mark.parametrize(
    ("asked", "answered", "level", "said"),
    [
        (0, 0, Level.good, "this machine's and the database's agree"),
        (-30, 30, Level.good, "this machine's and the database's agree"),  # the answer took a minute
        (12, 13, Level.note, "this machine's is 12 s ahead of the database's"),
        (-13, -12, Level.note, "this machine's is 12 s behind the database's"),
        (3_600, 3_601, Level.wrong, "this machine's is 3600 s ahead of the database's"),
    ],
)
def test_the_difference_between_two_clocks_is_measured(asked: int, answered: int, level: Level, said: str) -> None:
    finding = doctor.compare_clocks(T0 + timedelta(seconds=asked), T0, T0 + timedelta(seconds=answered))
    assert (finding.level, finding.text) == (level, said)


def test_the_clock_of_this_machine_is_compared_with_the_databases(database_url: str) -> None:
    def found(clock: Clock) -> list[Level]:
        return [finding.level for finding in doctor.look_at_server(database_url, clock) if finding.what == "clocks"]

    assert found(utc_now) == [Level.good]
    assert found(lambda: utc_now() - timedelta(hours=1)) == [Level.wrong]


def test_a_database_that_is_away_is_wrong_and_its_password_is_not_shown(settings_of: Any) -> None:
    port = refusing_port()
    settings = settings_of(DATABASE_URL=f"postgresql://txwatch:{PASSWORD}@127.0.0.1:{port}/txwatch")
    [finding] = doctor.look_at_database(settings)
    assert finding.level is Level.wrong
    assert f"127.0.0.1:{port} does not answer" in finding.text
    assert PASSWORD not in repr(finding)


@pytest.mark.parametrize("password", ["very%zzsecret", "not@very@secret"])
def test_a_database_url_that_cannot_be_read_is_wrong_and_not_shown(settings_of: Any, password: str) -> None:
    settings = settings_of(DATABASE_URL=f"postgresql://txwatch:{password}@127.0.0.1:1/txwatch")
    [finding] = doctor.look_at_database(settings)
    assert finding.level is Level.wrong
    assert "DATABASE_URL cannot be read" in finding.text
    assert "secret" not in repr(finding)


def test_without_a_database_url_the_embedded_server_is_looked_for(settings_of: Any) -> None:
    [finding] = doctor.look_at_database(settings_of())
    assert finding.level is Level.good


def test_a_port_in_use_is_named(settings_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(doctor, "PORTS", {"Dagster": port})
        assert texts(list(doctor.look_at_ports(settings_of())), Level.note) == [
            f"ports: {port}, which Dagster needs, is in use"
        ]
    assert texts(list(doctor.look_at_ports(settings_of())), Level.good) == [f"ports: {port} are free"]


def test_a_feed_that_cannot_be_reached_is_wrong(settings_of: Any) -> None:
    port = refusing_port()
    settings = settings_of(TXWATCH_STREAM_URL=f"ws://127.0.0.1:{port}/inv", TXWATCH_REST_URL=f"http://127.0.0.1:{port}")
    findings = list(doctor.look_at_feed(settings))
    assert [finding.level for finding in findings] == [Level.wrong, Level.note]
    assert "txwatch demo needs neither" in findings[0].remedy


def test_an_address_of_the_wrong_kind_is_wrong(settings_of: Any) -> None:
    settings = settings_of(TXWATCH_STREAM_URL="https://feed.example", TXWATCH_REST_URL="nonsense")
    assert "no ws:// or wss:// address" in next(iter(doctor.look_at_feed(settings))).text


def test_each_source_that_is_followed_is_asked(settings_of: Any) -> None:
    port = refusing_port()
    settings = settings_of(
        TXWATCH_SOURCES="bitcoin-core,mempool.space",
        BITCOIN_RPC_URL=f"http://user:{PASSWORD}@127.0.0.1:{port}",
        MEMPOOL_SPACE_URL=f"http://user:{PASSWORD}@127.0.0.1:{port}",
    )
    findings = list(doctor.look_at_feed(settings))
    assert [(finding.what, finding.level) for finding in findings] == [
        ("bitcoin-core", Level.wrong),
        ("mempool.space", Level.wrong),
    ]
    assert f"no node answers at 127.0.0.1:{port}" in findings[0].text
    assert PASSWORD not in str(findings)


def test_a_source_without_its_settings_is_wrong(settings_of: Any) -> None:
    for name, said in [("bitcoin-core", "BITCOIN_RPC_URL is not set"), ("nonsense", "there are: blockchain.info")]:
        first = next(iter(doctor.look_at_feed(settings_of(TXWATCH_SOURCES=name))))
        assert (first.level, said in first.text) == (Level.wrong, True)


@needs_node
def test_a_node_says_how_it_is(settings_of: Any, tmp_path: Path) -> None:
    with running_node(tmp_path / "node") as node:
        settings = settings_of(
            TXWATCH_SOURCES="bitcoin-core", BITCOIN_RPC_URL=node.rpc_url, BITCOIN_ZMQ_URL=node.zmq_url
        )
        [finding] = doctor.look_at_feed(settings)
        assert finding.level is Level.good
        assert finding.text.endswith("(regtest)")
        elsewhere = settings_of(
            TXWATCH_SOURCES="bitcoin-core", BITCOIN_RPC_URL=node.rpc_url, BITCOIN_ZMQ_URL="tcp://127.0.0.1:1"
        )
        [finding] = doctor.look_at_feed(elsewhere)
        assert f"the node publishes rawtx at {node.zmq_url}: set BITCOIN_ZMQ_URL to it" in finding.text


@pytest.mark.parametrize("address", ["ws://127.0.0.1:99999/", "ws://127.0.0.1:port/", "ws://[::1/", "ws://a..b/"])
def test_an_address_that_cannot_be_read_is_a_finding(settings_of: Any, address: str) -> None:
    http = address.replace("ws", "http")
    settings = settings_of(
        TXWATCH_STREAM_URL=address,
        TXWATCH_REST_URL=http,
        TELEGRAM_API_URL=http,
        TELEGRAM_BOT_TOKEN=TOKEN,
        MLFLOW_TRACKING_URI=http,
    )
    assert [finding.level for finding in doctor.look_at_feed(settings)] == [Level.wrong, Level.note]
    assert [finding.level for finding in doctor.look_at_telegram(settings)] == [Level.wrong]
    assert [finding.level for finding in doctor.look_at_mlflow(settings)] == [Level.wrong]


@pytest.mark.parametrize(
    ("variables", "level", "said"),
    [
        ({}, Level.note, "Telegram: TELEGRAM_BOT_TOKEN is not set"),
        ({"TELEGRAM_BOT_TOKEN": TOKEN}, Level.wrong, "Telegram: TELEGRAM_CHAT_ID names no chat"),
        ({"TELEGRAM_BOT_TOKEN": TOKEN, "TELEGRAM_CHAT_ID": "42"}, Level.good, "Telegram: the bot sees chat 42"),
    ],
)
def test_telegram_is_asked(settings_of: Any, variables: dict[str, str], level: Level, said: str) -> None:
    with TelegramServer(LocalTelegram()) as server:
        findings = list(doctor.look_at_telegram(settings_of(TELEGRAM_API_URL=server.url, **variables)))
    assert said in texts(findings, level)


def test_a_webhook_is_found(settings_of: Any) -> None:
    local = LocalTelegram()
    with TelegramServer(local) as server:
        variables = {"TELEGRAM_API_URL": server.url, "TELEGRAM_BOT_TOKEN": TOKEN, "TELEGRAM_CHAT_ID": "42"}
        settings = settings_of(**variables)
        assert not texts(list(doctor.look_at_telegram(settings)), Level.wrong)
        local.webhook = "https://elsewhere.example/secret-path"
        (found,) = [f for f in doctor.look_at_telegram(settings) if f.level is Level.wrong]
    assert found.text == "a webhook is set on the bot: it hears no commands and no buttons"
    assert "deleteWebhook" in found.remedy


def test_the_bucket_of_the_reports_is_asked(settings_of: Any) -> None:
    assert texts(list(doctor.look_at_reports(settings_of())), Level.good)
    with s3_server("reports") as s3, using_s3(environment_of(s3)):
        for bucket, level, said in (
            ("reports", Level.good, "reports: s3://reports/drift can be read"),
            ("nowhere", Level.wrong, "reports: s3://nowhere/drift: there is no such bucket"),
            ("K:S@reports", Level.wrong, "reports: An s3:// address names a bucket, and nothing else"),
        ):
            settings = settings_of(TXWATCH_REPORTS=f"s3://{bucket}/drift")
            (found,) = texts(list(doctor.look_at_reports(settings)), level)
            assert found.startswith(said)


def test_the_archive_is_asked_and_what_it_lacks_is_named(settings_of: Any, database_url: str, tmp_path: Path) -> None:
    assert texts(list(doctor.look_at_archive(settings_of(DATABASE_URL=database_url))), Level.good)
    folder = str(tmp_path / "archive")
    settings = settings_of(DATABASE_URL=database_url, TXWATCH_ARCHIVE=folder)
    assert texts(list(doctor.look_at_archive(settings)), Level.good) == [
        f"archive: {folder} has every day that it should have"
    ]
    with connect(database_url) as connection:
        fill_day(connection)
        (found,) = texts(list(doctor.look_at_archive(settings)), Level.wrong)
        assert found == "archive: not in the archive, and so kept in the database: 2024-03-14"
        drop_all(connection)
    (tmp_path / "a file").write_text("no folder")
    elsewhere = settings_of(DATABASE_URL=database_url, TXWATCH_ARCHIVE=str(tmp_path / "a file"))
    assert "File exists" in texts(list(doctor.look_at_archive(elsewhere)), Level.wrong)[0]


def test_what_the_disks_will_hold_is_said_once_it_can_be_measured(settings_of: Any, database_url: str) -> None:
    settings = settings_of(DATABASE_URL=database_url, TXWATCH_RETENTION_DAYS="14")
    assert texts(list(doctor.look_at_capacity(settings)), Level.note) == ["disks: what a day takes is not known yet"]
    start = T0.replace(hour=0)
    with connect(database_url) as connection:
        fill_day(connection)
        publish_network_baseline(connection, start, start + timedelta(days=1))
        [found] = doctor.look_at_capacity(settings)
        assert found.level is Level.good
        assert "of 14 days, takes" in found.text
        assert "a day; " in found.text
        assert found.text.endswith(("enough for all that is kept", "enough for ten years"))
        connection.execute("DELETE FROM network_baseline")
        drop_all(connection)
    assert not list(doctor.look_at_capacity(settings_of(DATABASE_URL=f"postgresql://127.0.0.1:{refusing_port()}/x")))


def test_the_whole_examination_prints_no_secret_and_ends_with_1(settings_of: Any) -> None:
    port = refusing_port()
    away = f"127.0.0.1:{port}"
    settings_of(
        DATABASE_URL=f"postgresql://txwatch:{PASSWORD}@{away}/txwatch",
        TXWATCH_STREAM_URL=f"ws://user:{PASSWORD}@{away}/inv",
        TXWATCH_REST_URL=f"http://user:{PASSWORD}@{away}",
        TELEGRAM_BOT_TOKEN=TOKEN,
        TELEGRAM_CHAT_ID="42",
        TELEGRAM_API_URL=f"http://{away}",
        MLFLOW_TRACKING_URI=f"http://user:{PASSWORD}@{away}",
    )
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 1
    for what in ("Python", "disk", "database", "feed", "Telegram", "MLflow"):
        assert f"{what}: " in result.output
    assert PASSWORD not in result.output
    assert TOKEN not in result.output
    assert "Traceback" not in result.output
