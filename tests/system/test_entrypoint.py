"""What stands in front of each container's command: secrets from files, and a signal for everything below it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.waiting import PATIENCE_SECONDS
from txwatch.system.entrypoint import SecretFileError, with_secrets

ENTRYPOINT = [sys.executable, "-m", "txwatch.system.entrypoint"]

CHILD_THAT_LEAVES_A_RUN_BEHIND = """
import subprocess, sys, signal
run = subprocess.Popen([sys.executable, "-c", sys.argv[1]], start_new_session=True)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
sys.stdout.write("server\\n")  # at once: the other one writes too
sys.stdout.flush()
signal.pause()
"""
RUN_THAT_FLUSHES = """
import pathlib, signal, sys, time
def flush(*_):
    pathlib.Path("flushed").write_text("all of it")
    sys.exit(0)
signal.signal(signal.SIGTERM, flush)
sys.stdout.write("run\\n")
sys.stdout.flush()
while True:
    signal.pause()
"""

CHILD_THAT_STARTS_A_RUN_WHEN_IT_SHOULD_END = """
import signal, subprocess, sys
def begin(*_):
    with subprocess.Popen([sys.executable, "-c", sys.argv[1]]) as run:
        run.wait()
    sys.exit(0)
signal.signal(signal.SIGTERM, begin)
print("server", flush=True)
while True:
    signal.pause()
"""
RUN_THAT_DOES_NOT_END = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("run", flush=True)
while True:
    signal.pause()
"""
IN_HALF_A_SECOND = (
    "import sys; from txwatch.system import entrypoint; entrypoint.GRACE_SECONDS = entrypoint.LOOK_AGAIN_SECONDS = 0.5;"
    " sys.exit(entrypoint.main(sys.argv[1:]))"
)


def test_a_secret_comes_from_its_file_and_a_variable_that_is_set_wins(tmp_path: Path) -> None:
    token, empty = tmp_path / "token", tmp_path / "empty"
    token.write_text("1:abc\n")
    empty.write_text("\n")
    found = with_secrets(
        {
            "TELEGRAM_BOT_TOKEN_FILE": str(token),
            "TXWATCH_API_KEY_FILE": str(empty),
            "DATABASE_PASSWORD": "set",
            "DATABASE_PASSWORD_FILE": str(token),
            "SSL_CERT_FILE": "/not/a/secret",
            "MLFLOW_S3_ENDPOINT_URL": "",
        }
    )
    assert found["TELEGRAM_BOT_TOKEN"] == "1:abc"
    assert found["DATABASE_PASSWORD"] == "set"
    assert "TXWATCH_API_KEY" not in found
    assert "SSL_CERT" not in found
    assert "MLFLOW_S3_ENDPOINT_URL" not in found


@pytest.mark.parametrize(
    ("url", "complete"),
    [
        ("postgresql://txwatch@postgres:5432/txwatch", "postgresql://txwatch:p%40ss%2Fword@postgres:5432/txwatch"),
        ("postgresql://txwatch:own@postgres/txwatch", "postgresql://txwatch:own@postgres/txwatch"),
        ("postgresql://postgres:@/postgres?host=/run/pg", "postgresql://postgres:@/postgres?host=/run/pg"),
    ],
)
def test_the_database_url_gets_the_password_unless_it_has_one(url: str, complete: str) -> None:
    assert with_secrets({"DATABASE_URL": url, "DATABASE_PASSWORD": "p@ss/word"})["DATABASE_URL"] == complete


def test_with_a_user_of_its_own_a_service_takes_nothing_of_the_urls_login() -> None:
    own = {"DATABASE_USER": "txwatch_bot", "DATABASE_PASSWORD": "p@ss"}
    for url in (
        "postgresql://txwatch:owners@postgres/db",
        "postgresql://txwatch@postgres/db",
        "postgresql://postgres/db",
    ):
        assert (
            with_secrets({"DATABASE_URL": url, **own})["DATABASE_URL"] == "postgresql://txwatch_bot:p%40ss@postgres/db"
        )


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(SecretFileError, match="TELEGRAM_BOT_TOKEN_FILE names /nowhere"):
        with_secrets({"TELEGRAM_BOT_TOKEN_FILE": "/nowhere"})


@contextmanager
def begun(command: list[str], folder: Path, errors: int | None = None) -> Iterator[subprocess.Popen[str]]:
    """A command in a folder, without a database, killed at the end of the block if it still runs."""
    environment = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=folder, env=environment
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_signal_reaches_what_the_command_started_and_is_waited_for(tmp_path: Path) -> None:
    command = [*ENTRYPOINT, sys.executable, "-c", CHILD_THAT_LEAVES_A_RUN_BEHIND, RUN_THAT_FLUSHES]
    with begun(command, tmp_path) as process:
        assert process.stdout is not None
        assert {process.stdout.readline().strip() for _ in range(2)} == {"server", "run"}
        below = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_SECONDS) == 0
    assert (tmp_path / "flushed").read_text() == "all of it"
    assert not [left for left in below if left.is_running()]


def test_no_alarm_is_left_when_the_command_has_ended(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; from txwatch.system.entrypoint import run; status = run(sys.argv[1:], os.environ);"
        " print(status, signal.getitimer(signal.ITIMER_REAL))"
    )
    with begun([sys.executable, "-c", script, sys.executable, "-c", RUN_THAT_FLUSHES], tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "run\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == "0 (0.0, 0.0)\n"
        assert process.wait(PATIENCE_SECONDS) == 0


def test_what_starts_after_the_signal_is_told_too(tmp_path: Path) -> None:
    command = [*ENTRYPOINT, sys.executable, "-c", CHILD_THAT_STARTS_A_RUN_WHEN_IT_SHOULD_END, RUN_THAT_FLUSHES]
    with begun(command, tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "server\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_SECONDS) == 0


def test_a_command_that_waits_for_what_does_not_end_is_killed_with_it_and_both_are_named(tmp_path: Path) -> None:
    stubborn = [sys.executable, "-c", CHILD_THAT_STARTS_A_RUN_WHEN_IT_SHOULD_END, RUN_THAT_DOES_NOT_END]
    with begun([sys.executable, "-c", IN_HALF_A_SECOND, *stubborn], tmp_path, subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "server\n"
        process.send_signal(signal.SIGTERM)
        said = process.stderr.read()
        assert process.wait(PATIENCE_SECONDS) == 128 + signal.SIGKILL
    assert said.count("which did not end in 0.5 s: ") == 2


def test_the_command_gets_the_environment_of_the_system(server_url: str, tmp_path: Path) -> None:
    environment = os.environ | {"TXWATCH_HOME": str(tmp_path), "DATABASE_URL": server_url}
    show = (
        "import os; print(os.environ['DAGSTER_POSTGRES_URL'], os.environ['DAGSTER_HOME'], os.environ['FEAST_DB_NAME'])"
    )
    done = subprocess.run(
        [*ENTRYPOINT, sys.executable, "-c", show], env=environment, capture_output=True, text=True, check=True
    )
    url, home, name = done.stdout.split()
    assert "search_path%3Ddagster" in url
    assert (Path(home) / "dagster.yaml").exists()
    assert name == "postgres"


def test_the_command_heeds_signals_also_where_they_were_ignored() -> None:
    says = [sys.executable, "-c", "import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"]
    for before in (ENTRYPOINT, [sys.executable, "-m", "txwatch.system.begin"]):
        in_the_background = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *before, *says]
        assert subprocess.run(in_the_background, capture_output=True, text=True, check=True).stdout == "True\n"


def test_the_exit_status_is_the_commands() -> None:
    assert subprocess.run([*ENTRYPOINT, sys.executable, "-c", "raise SystemExit(7)"], check=False).returncode == 7
