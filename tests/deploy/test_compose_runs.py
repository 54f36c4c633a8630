"""Every service of docker-compose.yml, started here by its own command in its own environment, as one system.

Docker is not needed: `tests/deploy/compose.py` says what stands for it. A PostgreSQL 18 stands for the image's.
"""

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from tests.deploy import compose
from tests.deploy.processes import Processes
from tests.waiting import wait_until
from txwatch.clock import utc_now, window_start
from txwatch.lab.simulator.traffic import Simulator
from txwatch.store.cluster import embedded_postgres, server_program
from txwatch.store.database import connect
from txwatch.store.lease import read_lease
from txwatch.system.history import land_history

pytestmark = pytest.mark.soak

HEALTHY_SECONDS = 180
ALERT_SECONDS = 900
HISTORY = timedelta(hours=1)
POSTGRES_PORT, REDIS_PORT, PROMETHEUS_PORT = 5432, 6379, 9090
TELEGRAM = "http://127.0.0.1:8766"


def is_used(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def postgres_of_compose(home: Path, service: dict[str, Any]) -> Iterator[str]:
    """A PostgreSQL as the image's variables make it, on loopback instead of the compose network."""
    user, database = service["environment"]["POSTGRES_USER"], service["environment"]["POSTGRES_DB"]
    with embedded_postgres(home) as url, psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {user} SUPERUSER LOGIN")
        connection.execute(f"CREATE DATABASE {database} OWNER {user}")
    # The embedded server listens on a socket only, and as root it belongs to a user of its own.
    owner = (home / "postgres").owner() if os.geteuid() == 0 else None
    command = [server_program("postgres"), "-D", home / "postgres", "-h", "127.0.0.1", "-p", str(POSTGRES_PORT)]
    with (home / "tcp.log").open("w") as log, subprocess.Popen(command, user=owner, stdout=log, stderr=log) as server:
        try:
            wait_until(lambda: is_used(POSTGRES_PORT), "postgres", HEALTHY_SECONDS)
            yield f"postgresql://{user}@127.0.0.1:{POSTGRES_PORT}/{database}"
        finally:
            server.send_signal(signal.SIGINT)


class System:
    """The services of the file as processes of this machine."""

    def __init__(self, services: dict[str, Any], machine: compose.Machine, processes: Processes, folder: Path) -> None:
        self._services, self._machine, self._processes, self._folder = services, machine, processes, folder

    def run_to_its_end(self, name: str) -> None:
        service = self._services[name]
        done = subprocess.run(
            self._machine.command(service), env=self._machine.environment(service), cwd=self._folder,
            capture_output=True, text=True, check=False, timeout=HEALTHY_SECONDS,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self, name: str) -> None:
        service = self._services[name]
        self._processes.start(name, self._machine.command(service), self._machine.environment(service), self._folder)

    def is_healthy(self, name: str) -> bool:
        service = self._services[name]
        process = self._processes.running[name]
        assert process.poll() is None, self._processes.tail(name)
        command = compose.health_command(service) or [*compose.ENTRYPOINT, "txwatch", "status", "--json"]
        done = subprocess.run(
            self._machine.run_as_here(command), env=self._machine.environment(service), cwd=self._folder,
            capture_output=True, check=False, timeout=HEALTHY_SECONDS,
        )  # fmt: skip
        return done.returncode == 0


def test_the_whole_set_serves_an_alert_end_to_end_and_leaves_cleanly(tmp_path: Path) -> None:
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    services = compose.load(compose.read_env_file("deploy/docker/demo.env") | {"DEMO_RATE": "40"})["services"]
    ports = [POSTGRES_PORT, REDIS_PORT, 3000, 3030, 5000, 8000, 8502, 8765, 8766, PROMETHEUS_PORT]
    if taken := [port for port in ports if is_used(port)]:
        pytest.skip(f"ports {taken} of this machine are in use")
    secrets = tmp_path / "secrets"
    subprocess.run([compose.PROJECT / "deploy/docker/make-secrets.sh", secrets], check=True, capture_output=True)
    machine = compose.Machine(tmp_path / "data", secrets, frozenset(services))
    # Where the image has its own folder, which holds no .env of a developer's.
    folder = tmp_path / "app"
    for made in (folder, machine.data):
        made.mkdir()
    with (
        postgres_of_compose(tmp_path / "pg", services["postgres"]) as database_url,
        Processes(tmp_path / "logs") as processes,
    ):
        system = System(services, machine, processes, folder)
        processes.start("redis", services["redis"]["command"], {"PATH": "/usr/bin:/bin"}, tmp_path)
        wait_until(lambda: is_used(REDIS_PORT), "redis", HEALTHY_SECONDS)
        system.run_to_its_end("init")
        end = window_start(utc_now())
        land_history(database_url, Simulator("2024-03", seed=5, start=end - HISTORY), end)

        for name in ("feed", "telegram", "mlflow", "code", "webserver", "daemon", "api", "dashboard", "bot"):
            system.start(name)
            wait_until(partial(system.is_healthy, name), f"the health of {name}", HEALTHY_SECONDS)
        rules = compose.PROJECT / "deploy/monitoring/rules.yml"
        if shutil.which("prometheus") and rules.exists():
            configuration = tmp_path / "prometheus.yml"
            text = (compose.PROJECT / "deploy/docker/prometheus.yml").read_text()
            configuration.write_text(machine.here(text).replace("/etc/prometheus/rules.yml", str(rules)))
            words = [
                word.replace("/etc/prometheus/prometheus.yml", str(configuration)).replace(
                    "path=/prometheus", f"path={tmp_path}/metrics"
                )
                for word in services["prometheus"]["command"]
            ]
            processes.start("prometheus", ["prometheus", *words], {"PATH": "/usr/bin:/bin"}, tmp_path)
            wait_until(lambda: is_used(PROMETHEUS_PORT), "prometheus", HEALTHY_SECONDS)

        with connect(database_url) as connection:
            wait_until(lambda: (lease := read_lease(connection)) and lease.received, "a worker", HEALTHY_SECONDS)
            wait_until(lambda: httpx.get(f"{TELEGRAM}/received").json(), "an alert on Telegram", ALERT_SECONDS, 1.0)
            for name in processes.running:
                assert processes.running[name].poll() is None, processes.tail(name)
            kinds = connection.execute("SELECT count(*) FROM alert_deliveries WHERE state = 'sent'").fetchone()
            assert kinds is not None
            assert kinds[0] >= 1
            statuses = processes.end()
            lease = read_lease(connection)
        assert lease is not None
        assert lease.released_at is not None, "the worker was killed before it could flush"
        assert all(status in {0, 130, 143} for status in statuses.values()), statuses
