"""docker-compose.yml started for real: built, upgraded, killed, filled up, watched and stopped. `make deploy-test`.

The tests are steps with one system, in this order. Each notes in the table what it has tried.
"""

import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx
import pytest
import yaml

from tests.databases import LATEST
from tests.deploy import compose
from tests.deploy.conftest import Record
from tests.deploy.containers import System, copy_project, docker, last_version, unpack_version
from tests.deploy.receiver import Receiver, receiving
from tests.waiting import wait_until
from txwatch.store.roles import PREFIX, RIGHTS

pytestmark = pytest.mark.deploy

TELEGRAM = "http://telegram:8766/received"
ALERTED = f"import json, urllib.request as r; print(len(json.load(r.urlopen('{TELEGRAM}'))))"
ONE_HOUR = """
from datetime import timedelta
from txwatch.clock import utc_now, window_start
from txwatch.lab.simulator.traffic import Simulator
from txwatch.settings import Settings
from txwatch.system.history import land_history

end = window_start(utc_now())
url = Settings().require_database_url()
print(land_history(url, Simulator("2024-03", seed=5, start=end - timedelta(hours=1)), end))
"""
SPOOLED = """
from pathlib import Path
print(sum(file.stat().st_size for file in Path("/data/spool").rglob("*") if file.is_file()))
"""
DISK = "2500m"
PATIENCE_SECONDS = 900.0


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    """Listens where containers reach this machine, and nobody else does."""
    address = docker("network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Gateway}}").strip()
    with receiving(address) as listening:
        yield listening


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A disk of its own for one volume, which a test can fill."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """The demo's services in a folder as a person would have it, not started yet. Volumes are removed at the end."""
    folder = tmp_path_factory.mktemp("project") / "txwatch"
    copy_project(folder)
    with small_disk(folder.with_name("disk")) as disk:
        bind = {"type": "none", "o": "bind", "device": str(disk)}
        ours = {
            "services": {"alertmanager": {"extra_hosts": ["receiver:host-gateway"]}},
            "volumes": {"postgres": {"driver_opts": bind}},
        }
        (folder / "test.yml").write_text(yaml.safe_dump(ours))
        files = ["docker-compose.yml", "deploy/stand-ins/compose.yml", "test.yml"]
        containers = System(folder, files, "deploy/docker/demo.env")
        try:
            yield containers
        finally:
            containers.compose("down", "--volumes", "--timeout", "20", check=False)


def healthy(system: System, service: str) -> bool:
    """Whether it runs and its health check, if there is one, says that it is well."""
    found = system.services().get(service)
    return found is not None and found.state == "running" and found.health in {"healthy", ""}


def wait_for_health(system: System, service: str) -> None:
    wait_until(partial(healthy, system, service), f"the health of {service}", PATIENCE_SECONDS, 1.0)


def number(system: System, statement: str) -> float:
    """The one number that a query gives."""
    [[value]] = system.query(statement)
    return float(value or 0)


def rises(read: Callable[[], float]) -> Callable[[], bool]:
    """Whether a number is higher than it was when this was called."""
    before = read()
    return lambda: read() > before


def test_the_image_is_built_by_the_projects_own_recipe(system: System, record: Record) -> None:
    subprocess.run([system.folder / "deploy/docker/make-secrets.sh"], check=True, capture_output=True)
    with record("built", "the image of deploy/docker/Dockerfile"):
        system.compose("build", "init")
    with record("checked", "the image's own words: no root, an entry point, a health check"):
        assert docker("inspect", "--format", "{{.Config.User}}", "txwatch:0.1.0").strip() == "10001:10001"


def test_a_database_of_the_last_version_is_upgraded(system: System, record: Record) -> None:
    version = last_version()
    if version is None:
        record.skipped("the upgrade", "this checkout has no history of git's")
        pytest.skip("no history")
    old = system.folder.with_name("old")
    unpack_version(version, old)
    run_old = ["run", "--rm", "--no-deps", "-T", "--volume", f"{old}:/old:ro", "--env", "PYTHONPATH=/old", "init"]
    with record("started", f"the database, by the code of {version[:12]}, with an hour of traffic"):
        system.compose("up", "--detach", "postgres", "redis")
        wait_for_health(system, "postgres")
        system.compose(*run_old, "python", "-m", "txwatch.system.launch")
        landed = system.compose(*run_old, "python", "-", text=ONE_HOUR).stdout.split()[-1]
        [[revision]] = system.query("SELECT version_num FROM alembic_version")
        assert revision != LATEST
    with record("checked", f"the upgrade from schema {revision} to {LATEST} loses none of {landed} transactions"):
        system.compose("up", "--detach", "init")
        wait_until(lambda: system.services()["init"].state == "exited", "the upgrade", PATIENCE_SECONDS, 1.0)
        assert system.services()["init"].exit_code == 0, system.compose("logs", "init").stdout
        assert system.query("SELECT version_num FROM alembic_version") == [[LATEST]]
        assert number(system, "SELECT count(*) FROM transactions") == int(landed)


def test_every_service_becomes_healthy(system: System, record: Record, receiver: Receiver) -> None:
    for name, path in (("alarm_webhook", "/alarm"), ("heartbeat_webhook", "/heartbeat")):
        (system.folder / "deploy/secrets" / name).write_text(f"http://receiver:{receiver.port}{path}\n")
    with record("started", "docker compose --env-file deploy/docker/demo.env up --detach"):
        system.compose("up", "--detach")
    for name in sorted(set(system.services()) - {"init"}):
        with record("healthy", name):
            wait_for_health(system, name)
    record.skipped("grafana", "Debian has no package of it, and no registry is in reach")
    record.skipped("localstack", "as Grafana; its part of S3 is tried with moto in the test suite")
    record.skipped(
        "the images' own contents", "Debian's packages stand for postgres, redis, prometheus, alertmanager, python"
    )


def test_no_root_file_system_can_be_written_and_processes_are_bounded(system: System, record: Record) -> None:
    with record("checked", "root file systems are read-only, processes bounded, no capability is left"):
        for name in set(system.services()) - {"init"}:
            host = system.described(name)["HostConfig"]
            assert host["ReadonlyRootfs"], name
            assert 0 < host["PidsLimit"] <= 1024, name
            assert host["CapDrop"] == ["ALL"] or name == "postgres"
            done = system.compose("exec", "-T", name, "sh", "-c", "touch /opt/x /usr/x", check=False)
            assert done.returncode != 0, name
            assert "Read-only file system" in done.stderr, name


def test_the_code_server_is_reached_by_dagster_alone(system: System, record: Record) -> None:
    addresses = [found["IPAddress"] for found in system.described("code")["NetworkSettings"]["Networks"].values()]
    knock = f"""
import socket
reached = []
for address in {["code-server", *addresses]!r}:
    try:
        socket.create_connection((address, 3030), 2).close()
        reached.append(address)
    except OSError:
        pass
print(len(reached))
"""
    ours = set(compose.ours(compose.load())) & set(system.services()) - {"init", "code"}
    with record("checked", "the code server is reached by Dagster's web server and daemon, and by nobody else"):
        with ThreadPoolExecutor() as at_once:  # each of the others waits for an answer that does not come
            told = dict(zip(ours, at_once.map(lambda name: system.python(name, knock), ours), strict=True))
        assert {name for name in ours if int(told[name].split()[-1])} == {"webserver", "daemon"}


def test_each_secret_is_only_where_it_is_read(system: System, record: Record) -> None:
    services = compose.load()["services"]
    token = "1:local"
    with record("checked", "each secret is only where it is read, and nobody logs in as the tables' owner"):
        for name in set(compose.ours(compose.load())) & set(system.services()) - {"init"}:
            found = system.compose(
                "exec", "-T", name, "sh", "-c", "ls /run/secrets 2>/dev/null; env", check=False
            ).stdout
            held = {line for line in found.splitlines() if line in compose.load()["secrets"]}
            assert held == set(services[name].get("secrets", [])), name
            assert (token in found) == ("telegram_bot_token" in held), name
        users = {
            user
            for [user] in system.query("SELECT DISTINCT usename FROM pg_stat_activity WHERE client_addr IS NOT NULL")
        }
        assert users <= {PREFIX + service for service in RIGHTS}


@pytest.mark.parametrize(
    ("service", "statement"),
    [
        ("dashboard", "DELETE FROM alerts"),
        ("bot", "DELETE FROM transactions"),
        ("api", "UPDATE alert_deliveries SET state = 'dead'"),
        ("webserver", "SELECT * FROM transactions LIMIT 1"),
        ("daemon", "SELECT * FROM mlflow.experiments"),
        ("mlflow", "SELECT * FROM alerts LIMIT 1"),
        ("code", "SELECT * FROM mlflow.experiments LIMIT 1"),
        ("code", "CREATE ROLE other"),
        ("code", "COPY alerts TO PROGRAM 'cat'"),
    ],
)
def test_a_service_may_do_in_the_database_only_what_it_needs(
    system: System, record: Record, service: str, statement: str
) -> None:
    tried = f"""
import os, psycopg
from txwatch.store.database import connect
try:
    with connect(os.environ["DATABASE_URL"]) as connection:
        connection.execute({statement!r})
except psycopg.errors.InsufficientPrivilege:
    print("refused")
"""
    with record("checked", f"{service} may not: {statement}"):
        assert system.python(service, tried, complete=True).split() == ["refused"]


def kill_and_wait(system: System, record: Record, service: str) -> None:
    """Kill a service, and wait until it came back and is well."""
    started = system.described(service)["State"]["StartedAt"]
    with record("killed", f"{service}, with SIGKILL; it comes back by itself"):
        system.kill_hard(service)
        wait_until(
            lambda: system.described(service)["State"]["StartedAt"] != started, "a new start", PATIENCE_SECONDS, 0.5
        )
        wait_for_health(system, service)


@pytest.mark.parametrize("service", ["redis", "webserver", "api", "dashboard", "bot", "prometheus", "alertmanager"])
def test_what_no_score_waits_for_comes_back_from_its_death(system: System, record: Record, service: str) -> None:
    kill_and_wait(system, record, service)


def test_alerts_are_sent_and_live_windows_are_scored(system: System, record: Record) -> None:
    with record("checked", "an alert is in the local Telegram"):
        wait_until(lambda: int(system.python("bot", ALERTED)), "an alert", PATIENCE_SECONDS, 2.0)
    live = (
        "SELECT count(*) FROM scored_windows WHERE EXISTS (SELECT FROM transactions WHERE source = 'feed'"
        " AND seen_at >= window_start AND seen_at < window_start + '5 minutes'::interval)"
    )
    with record("checked", "a model is trained, and a window of live traffic is scored"):
        wait_until(lambda: number(system, live), "a live window's scores", 2 * PATIENCE_SECONDS, 5.0)


@pytest.mark.parametrize("service", ["mlflow", "daemon", "code", "postgres"])
def test_what_is_at_work_comes_back_from_its_death(system: System, record: Record, service: str) -> None:
    kill_and_wait(system, record, service)


LANDED = "SELECT count(*) FROM transactions WHERE source <> 'bulk'"


def test_after_all_that_transactions_still_land(system: System, record: Record) -> None:
    with record("checked", "after these deaths the feed is followed, and transactions land"):
        wait_until(rises(lambda: number(system, LANDED)), "transactions that land", PATIENCE_SECONDS, 1.0)


def test_a_restart_of_postgres_loses_nothing(system: System, record: Record) -> None:
    with record("restarted", "postgres; what came meanwhile lands from the spool, and no gap stays"):
        gaps = number(system, "SELECT count(*) FROM feed_gaps")
        system.compose("restart", "postgres")
        wait_for_health(system, "postgres")
        wait_until(rises(lambda: number(system, LANDED)), "transactions that land", PATIENCE_SECONDS, 1.0)
        assert number(system, "SELECT count(*) FROM feed_gaps") == gaps


def test_a_full_disk_of_the_database_is_survived(system: System, record: Record) -> None:
    disk = system.folder.with_name("disk")
    filler = disk / "filler"
    with record("filled", "the disk of the volume `postgres`, and emptied again; the worker spools, then lands"):
        gaps = number(system, "SELECT count(*) FROM feed_gaps")
        landed = number(system, LANDED)
        with filler.open("wb") as file:
            try:
                while True:
                    file.write(bytes(1 << 20))
            except OSError:
                pass
        wait_until(lambda: int(system.python("webserver", SPOOLED)) > 0, "a spool", PATIENCE_SECONDS, 1.0)
        filler.unlink()
        wait_for_health(system, "postgres")
        wait_until(lambda: number(system, LANDED) > landed, "transactions that land", PATIENCE_SECONDS, 1.0)
        wait_until(lambda: int(system.python("webserver", SPOOLED)) == 0, "an empty spool", PATIENCE_SECONDS, 1.0)
        assert number(system, "SELECT count(*) FROM feed_gaps") == gaps


def test_alarms_reach_a_person_by_another_way_than_the_bot(system: System, record: Record, receiver: Receiver) -> None:
    with record("checked", "amtool takes the configuration of Alertmanager"):
        system.compose("exec", "-T", "alertmanager", "amtool", "check-config", "/etc/alertmanager/alertmanager.yml")
    with record("checked", "the heartbeat comes, minute by minute"):
        wait_until(rises(lambda: len(receiver.alarms("/heartbeat"))), "a heartbeat", PATIENCE_SECONDS, 1.0)
    # The API first: by it the others are seen.
    for killed in ({"api": "TxwatchDown"}, {"bot": "TxwatchBotGone", "code": "TxwatchNobodyFollowsTheFeed"}):
        before = receiver.alarms()
        system.compose("kill", *killed)
        for service, alarm in killed.items():
            with record("killed", f"{service}, for good; {alarm} reaches the local receiver"):
                wait_until(
                    lambda alarm=alarm, before=before: receiver.alarms().count(alarm) > before.count(alarm),  # type: ignore[misc]
                    alarm, PATIENCE_SECONDS, 1.0,
                )  # fmt: skip
        system.compose("up", "--detach", "--no-recreate", *killed)
        for service in killed:
            wait_for_health(system, service)
    # A worker follows the feed again: Dagster starts one some time after the code server is well.
    wait_until(rises(lambda: number(system, LANDED)), "transactions that land", PATIENCE_SECONDS, 1.0)


def test_a_stop_hands_the_lease_over_and_flushes(system: System, record: Record) -> None:
    with record("stopped", "all but the database; the worker has given its lease back, and nobody was killed"):
        names = [name for name in system.services() if name not in {"postgres", "redis"}]
        system.compose("stop", *names)
        assert system.query("SELECT released_at IS NOT NULL FROM ingest_lease") == [["t"]]
        statuses = {name: found.exit_code for name, found in system.services().items() if name in names}
        assert not {name: status for name, status in statuses.items() if status == 137}, statuses
    with record("started", "all again from what the volumes hold"):
        system.compose("start")
        wait_until(rises(lambda: number(system, LANDED)), "transactions that land", PATIENCE_SECONDS, 1.0)


def test_a_backup_is_made_as_documented(system: System, record: Record) -> None:
    with record("checked", "a backup, by the document's line"):
        system.compose("run", "--rm", "--no-deps", "init", "txwatch", "backup", "/data/today.tar")
        system.compose("cp", "webserver:/data/today.tar", ".")
        assert httpx.get("http://127.0.0.1:8000/health/live", timeout=PATIENCE_SECONDS).is_success
