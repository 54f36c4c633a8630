"""The `txwatch` command as its users run it: in a process, against a real database and a real feed."""

import asyncio
import json
import re
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.builders import numbered_utx
from tests.databases import copied_database
from tests.deploy.processes import quiet_environment
from tests.feeds import CapturedFeed
from tests.waiting import PATIENCE_SECONDS, eventually
from txwatch.cli import app
from txwatch.clock import utc_now
from txwatch.people.keys import find_key
from txwatch.store.cluster import embedded_postgres
from txwatch.store.database import connect
from txwatch.store.lease import read_lease
from txwatch.system.environment import PORTS, PortInUseError


def txwatch(*arguments: str, folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a folder without `.env`."""
    return subprocess.run(command(*arguments), env=clean(settings), cwd=folder, capture_output=True, text=True)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "txwatch", *arguments]


def clean(settings: Mapping[str, str]) -> dict[str, str]:
    """An environment with these settings of the product's alone."""
    return {**quiet_environment(), "COLUMNS": "200", **settings}


def test_every_command_says_what_it_does() -> None:
    result = CliRunner().invoke(app, ["--help"])
    assert result.exit_code == 0
    for name in "migrate", "feed", "ingest", "status", "demo", "run":
        assert name in result.stdout
        assert CliRunner().invoke(app, [name, "--help"]).exit_code == 0


def test_migrate_makes_the_schema_and_keeps_the_first_day(server_url: str, tmp_path: Path) -> None:
    url = copied_database(server_url, "template0")
    for _ in range(2):
        done = txwatch("migrate", folder=tmp_path, DATABASE_URL=url, TXWATCH_HOME="home")
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
    with connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM transactions").fetchone() == (0,)
        assert connection.execute("SELECT count(*) FROM history_start").fetchone() == (1,)


def test_migrate_says_in_one_line_that_a_newer_program_made_the_schema(server_url: str, tmp_path: Path) -> None:
    url = copied_database(server_url, "template_txwatch")
    with connect(url) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    done = txwatch("migrate", folder=tmp_path, DATABASE_URL=url)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("txwatch: the database's schema is 9999, which this program does not know")


@pytest.mark.parametrize("arguments", [["migrate"], ["ingest"], ["status"], ["status", "--json"]])
def test_without_a_database_the_command_says_so_in_one_line(arguments: list[str], tmp_path: Path) -> None:
    done = txwatch(*arguments, folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("txwatch: DATABASE_URL is not set.")


def test_commands_find_the_database_of_a_system_that_runs_beside_them(tmp_path: Path) -> None:
    with embedded_postgres(tmp_path / ".txwatch") as url:
        assert txwatch("migrate", folder=tmp_path, DATABASE_URL=url).returncode == 0
        for command in ("status", "rules list", "channels list", "keys add alice --scope read", "labels watched"):
            done = txwatch(*command.split(), folder=tmp_path)
            assert done.returncode == 0, done.stderr
        with connect(url) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,), "it goes on running"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("TXWATCH_API_KEY", "hunter2-short", "at least 16"),
        ("TXWATCH_WHALE_BTC", "inf", "finite number"),
        ("TXWATCH_RETENTION_DAYS", "99999999", "less than or equal to"),
        ("TXWATCH_HISTORY_START", "yesterday", "valid datetime"),
    ],
)
def test_a_setting_that_cannot_be_is_named_in_one_line_without_its_value(
    tmp_path: Path, name: str, value: str, said: str
) -> None:
    done = txwatch("status", folder=tmp_path, DATABASE_URL="postgresql://u:p@localhost/x", **{name: value})
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"txwatch: {name}: ")
    assert said in line
    assert value not in line


@pytest.mark.parametrize("url", ["postgresql://u:very%zzsecret@localhost/x", "mysql://u:secret@localhost/x"])
def test_a_database_url_that_cannot_be_read_is_one_line_without_its_password(tmp_path: Path, url: str) -> None:
    done = txwatch("status", folder=tmp_path, DATABASE_URL=url)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("txwatch: DATABASE_URL ")
    assert "secret" not in line


def test_status_of_a_system_that_has_not_begun(database_url: str, tmp_path: Path) -> None:
    done = txwatch("status", "--json", folder=tmp_path, DATABASE_URL=database_url)
    assert done.returncode == 0, done.stderr
    status = json.loads(done.stdout)
    assert (status["transactions"], status["ingest"], status["model_version"]) == (0, "never started", None)
    assert status["landing_latency_ms"] == {"p50": None, "p99": None}
    table = txwatch("status", folder=tmp_path, DATABASE_URL=database_url)
    said = {
        name.strip(): value.strip() for name, _, value in (line.partition("  ") for line in table.stdout.splitlines())
    }
    assert said["ingest"] == "never started"
    assert (said["landing latency ms"], said["alerts"], said["model version"]) == ("p50 –, p99 –", "none", "–")


def test_ingest_lands_every_message_once_until_it_is_told_to_end(database_url: str, tmp_path: Path) -> None:
    sent = [numbered_utx(n) for n in range(1, 301)]
    lines = [*sent, *sent[:50], b'{"op":"utx","x":{}}']
    said = asyncio.run(_ingest(CapturedFeed(tmp_path, lines), len(lines), database_url, tmp_path))
    assert said == "Landed 300 transactions; stopped.\n"
    with connect(database_url) as connection:
        txids = Counter(txid for (txid,) in connection.execute("SELECT txid FROM transactions"))
    assert txids == Counter(f"{n:064x}" for n in range(1, 301))

    done = txwatch("status", "--json", folder=tmp_path, DATABASE_URL=database_url)
    status = json.loads(done.stdout)
    assert (status["transactions"], status["duplicates"], status["quarantined"]) == (300, 50, 1)
    assert status["received"] >= len(lines)
    assert status["ingest"] == "absent"
    assert 0 < status["landing_latency_ms"]["p50"] <= status["landing_latency_ms"]["p99"]


async def _ingest(feed: CapturedFeed, count: int, database_url: str, folder: Path) -> str:
    """What `txwatch ingest` says when it is ended by SIGTERM, after it has received everything."""

    def received() -> int:
        with connect(database_url) as connection:
            lease = read_lease(connection)
        # The feed's answers to pings are counted too, as ignored.
        return -1 if lease is None or lease.committed_through is None else lease.received - lease.ignored

    async with feed.serve() as server:
        settings = {"DATABASE_URL": database_url, "TXWATCH_STREAM_URL": server.stream_url}
        process = await asyncio.create_subprocess_exec(
            *command("ingest"), env=clean(settings), cwd=folder, stdout=subprocess.PIPE
        )
        try:
            await eventually(lambda: received() == 0, "it has subscribed")
            feed.play(count)
            await eventually(lambda: received() == count, "it has landed everything")
            process.send_signal(signal.SIGTERM)
            output, _ = await asyncio.wait_for(process.communicate(), PATIENCE_SECONDS)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    assert process.returncode == 0
    return "".join(line + "\n" for line in output.decode().splitlines() if line.startswith("Landed"))


def test_a_demo_with_a_port_in_use_fails_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TXWATCH_HOME", str(tmp_path / "home"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr("txwatch.system.demo.PORTS", dict.fromkeys(PORTS, port))
        result = CliRunner().invoke(app, ["demo", "--seconds=1"])
    assert isinstance(result.exception, PortInUseError)
    assert f"port {port}" in str(result.exception)
    assert list(tmp_path.iterdir()) == []


def test_without_a_token_the_bot_waits_and_says_so(tmp_path: Path) -> None:
    """It would be started again and again if it ended."""
    settings = clean({"DATABASE_URL": "postgresql://127.0.0.1:1/nowhere", "TELEGRAM_CHAT_ID": "1"})
    with subprocess.Popen(command("bot"), env=settings, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as bot:
        assert bot.stderr is not None
        said = next(line for line in bot.stderr if "bot_waits" in line)
        assert "TELEGRAM_BOT_TOKEN and TELEGRAM_CHAT_ID are not both set" in said
        assert bot.poll() is None
        bot.terminate()
    assert bot.returncode == 0


def test_keys_are_made_once_listed_without_themselves_and_revoked(database_url: str, tmp_path: Path) -> None:
    def keys(*arguments: str) -> subprocess.CompletedProcess[str]:
        return txwatch("keys", *arguments, folder=tmp_path, DATABASE_URL=database_url)

    assert "There is no key yet" in keys("list").stderr
    made = keys("add", "alice", "--scope=read", "--scope=manage", "--days=30")
    assert made.returncode == 0, made.stderr
    key = made.stdout.strip()
    assert keys("add", "alice", "--scope=read").returncode == 2
    assert "A scope is read, score or manage" in keys("add", "bob", "--scope=all").stderr
    listed = keys("list").stdout
    assert re.search(r"alice +read, manage", listed)
    assert key not in listed
    assert keys("revoke", "alice").returncode == 0
    assert keys("revoke", "alice").returncode == 2
    with connect(database_url) as connection:
        assert find_key(connection, key, utc_now()) is None
        done = connection.execute("SELECT who, subject, action FROM changes WHERE area = 'keys' ORDER BY id").fetchall()
    assert [(subject, action) for _, subject, action in done] == [("alice", "add"), ("alice", "revoke")]
    assert all(who.startswith("shell:") for who, _, _ in done)
