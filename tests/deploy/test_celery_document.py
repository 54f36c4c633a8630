"""docs/scaling.md, typed line by line: a broker with a password and TLS, a first machine, and one that works."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.databases import copied_database
from tests.deploy.compose import PROJECT
from tests.deploy.conftest import Record
from tests.deploy.processes import Processes, quiet_environment
from tests.ports import is_used
from tests.waiting import answers, wait_until
from txwatch.store.database import connect, scalar

DOCUMENT = (PROJECT / "docs/scaling.md").read_text()
DOCUMENTED = "docs/scaling.md: a broker with TLS, a head, and a worker of Celery that follows the feed"
FEED_PORT, BROKER_PORT = 8765, 6379
PORTS = [3000, 3030, 5000, BROKER_PORT, 8000, 8502, FEED_PORT]


class Lines(NamedTuple):
    """What is typed, by where. `everywhere` comes before all but the broker's."""

    broker: str
    everywhere: str
    tables: str
    mlflow: str
    head: str
    worker: str
    once: str


def documented() -> Lines:
    """The blocks of the section, in their order."""
    section = re.search(r"^## Several machines with Celery\n(.*?)^## ", DOCUMENT, re.MULTILINE | re.DOTALL)
    assert section is not None
    return Lines(*re.findall(r"^```sh\n(.*?)^```", section[1], re.MULTILINE | re.DOTALL))


class Terminals:
    """One for each machine, all on this one: names are loopback's, and /srv is a folder of the test."""

    def __init__(self, folder: Path, processes: Processes) -> None:
        self.database_url = "postgresql:///nowhere"
        self._folder, self._processes = folder, processes
        (folder / "srv/txwatch").mkdir(parents=True)
        # A checkout without a developer's .env.
        (folder / "checkout").mkdir()
        (folder / "checkout/deploy").symlink_to(PROJECT / "deploy")

    def here(self, lines: str) -> str:
        """The lines with what only exists elsewhere replaced."""
        typed = re.sub(r"^python3 deploy/install.py .*$", "true", lines, flags=re.MULTILINE)
        typed = re.sub(r"postgresql://[^\"]*", lambda _: self.database_url, typed)
        typed = re.sub(r"\w+\.example\.internal", "localhost", typed)
        return typed.replace("/srv/txwatch", str(self._folder / "srv/txwatch"))

    def environment(self, machine: str) -> dict[str, str]:
        return {
            **quiet_environment(),
            "PATH": f"{Path(sys.executable).parent}:{quiet_environment()['PATH']}",
            "PYTHONPATH": str(PROJECT),
            "TXWATCH_HOME": str(self._folder / machine),
            "TXWATCH_STREAM_URL": f"ws://127.0.0.1:{FEED_PORT}/inv",
            "TXWATCH_REST_URL": f"http://127.0.0.1:{FEED_PORT}",
        }

    def open(self, machine: str, name: str, lines: str) -> None:
        """Type lines whose last one goes on."""
        command = ["bash", "-ec", self.here(lines)]
        self._processes.start(name, command, self.environment(machine), self._folder / "checkout")

    def wait(self, name: str, condition: Callable[[], object]) -> None:
        """Return once the condition holds; the terminal must not end before."""

        def holds() -> object:
            assert self._processes.running[name].poll() is None, self._processes.tail(name)
            return condition()

        wait_until(holds, name, look_every=0.5)

    def type(self, machine: str, lines: str) -> str:
        """Type lines that end, and give what they say."""
        done = subprocess.run(
            ["bash", "-ec", self.here(lines)], env=self.environment(machine), cwd=self._folder / "checkout",
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@contextmanager
def broker(folder: Path) -> Iterator[tuple[Terminals, Processes]]:
    """The documented broker, and terminals beside it."""
    for program in "redis-server", "openssl":
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    if is_used(BROKER_PORT):
        pytest.skip(f"port {BROKER_PORT} of this machine is in use")
    with Processes(folder / "logs") as processes:
        terminals = Terminals(folder, processes)
        terminals.open("broker", "broker", documented().broker)
        terminals.wait("broker", lambda: is_used(BROKER_PORT))
        yield terminals, processes


def test_the_broker_takes_tls_with_its_password_and_nothing_else(tmp_path: Path) -> None:
    from redis import Redis
    from redis.exceptions import AuthenticationError
    from redis.exceptions import ConnectionError as NoConnection

    with broker(tmp_path):
        folder = tmp_path / "srv/txwatch/broker"
        url = (folder / "url").read_text().strip()
        with Redis.from_url(url) as client:
            assert client.ping()
        host, query = url.partition("@")[2], url.partition("?")[2]
        with Redis.from_url(f"rediss://{host}") as stranger, pytest.raises(AuthenticationError):
            stranger.ping()
        with (
            Redis.from_url(url.replace("rediss:", "redis:").replace(f"?{query}", "")) as plain,
            pytest.raises(NoConnection),
        ):
            plain.ping()
        with Redis.from_url(url.replace("localhost", "127.0.0.1")) as other_name, pytest.raises(NoConnection):
            other_name.ping()
        assert {path.name for path in folder.iterdir()} == {"broker.crt", "broker.key", "ca.crt", "redis.conf", "url"}
        assert {path.stat().st_mode & 0o077 for path in folder.iterdir()} == {0}


@pytest.mark.deploy
def test_the_lines_of_the_document_give_a_feed_that_is_followed_on_a_worker(
    server_url: str, tmp_path: Path, record: Record
) -> None:
    lines = documented()
    if taken := [port for port in PORTS if is_used(port)]:
        pytest.skip(f"ports {taken} of this machine are in use")
    url = copied_database(server_url, "template0")
    with record("typed", DOCUMENTED), broker(tmp_path) as (terminals, processes):
        terminals.database_url = url
        feed = [sys.executable, "-m", "txwatch", "feed", "--port", str(FEED_PORT), "--rate", "20"]
        processes.start("feed", feed, terminals.environment("feed"), tmp_path)
        terminals.type("head", lines.everywhere + lines.tables)
        terminals.open("head", "mlflow", lines.everywhere + lines.mlflow)
        terminals.wait("mlflow", lambda: answers("http://127.0.0.1:5000/health"))
        terminals.open("head", "head", lines.everywhere + lines.head)
        terminals.wait("head", lambda: answers("http://127.0.0.1:3000/server_info"))
        terminals.open("worker", "worker", lines.everywhere + lines.worker)
        terminals.wait("worker", lambda: " ready." in processes.log("worker").read_text())
        terminals.type("head", lines.everywhere + lines.once)

        def follows() -> bool:
            with connect(url) as connection:
                holder = scalar(connection, "SELECT holder FROM ingest_lease WHERE released_at IS NULL")
            return str(holder).startswith("run ")

        terminals.wait("worker", follows)
        with connect(url) as connection:
            holder = str(scalar(connection, "SELECT holder FROM ingest_lease"))
            slots = scalar(
                connection, "SELECT \"limit\" FROM dagster.concurrency_limits WHERE concurrency_key = 'scoring'"
            )
            before = scalar(connection, "SELECT count(*) FROM transactions")
            wait_until(lambda: scalar(connection, "SELECT count(*) FROM transactions") > before, "transactions")
            starts = scalar(connection, "SELECT count(*) FROM history_start")
        worker_log = processes.log("worker").read_text()
        password = (tmp_path / "srv/txwatch/broker/redis.conf").read_text().split("requirepass ")[1].split()[0]
        assert " received" in worker_log, "the run is the worker's task"
        assert holder.split()[1] in worker_log
        assert (slots, starts) == (8, 1)
        # The worker's home has no start of its own: it reads the head's.
        assert not (tmp_path / "worker/history_start").exists()
        for name in "worker", "head", "mlflow":
            assert password not in processes.log(name).read_text()
