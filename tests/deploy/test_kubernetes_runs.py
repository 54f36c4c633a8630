"""Every container of the chart, started in a container by its manifest, as one system.

There is no cluster: the engine holds containers to what manifests say of users, rights, file systems, memory and
mounts, the values of secrets are the test's, and a server takes the jobs that Dagster asks Kubernetes for. The job of a
run is then started as its pod would be.
"""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.deploy.chart import KUBECONFIG, Pod, instance, kubernetes, pods
from tests.deploy.conftest import Record
from tests.deploy.containers import System, copy_project, docker, docker_may
from tests.deploy.node import IMAGE, Node, network
from tests.waiting import wait_until

pytestmark = pytest.mark.deploy

STARTED = "each container of the chart by its manifest, and the job of a run"
VALUES = "run"
"""The installation whose ingestion is a run."""
NETWORK = "chart"
PASSWORD = "sesame"
DATABASE = ["--env", "POSTGRES_USER=txwatch", "--env", "POSTGRES_DB=txwatch"]
FEED = ["txwatch", "feed", "--host", "0.0.0.0", "--port", "8765", "--rate", "20"]
FOLLOWED = "SELECT count(*) FROM transactions WHERE source <> 'bulk'"


@pytest.fixture
def image(tmp_path: Path) -> None:
    """The image, built of this checkout."""
    folder = tmp_path / "project"
    copy_project(folder)
    subprocess.run([folder / "deploy/docker/make-secrets.sh"], check=True, capture_output=True)
    files = ["docker-compose.yml", "deploy/stand-ins/compose.yml"]
    System(folder, files, "deploy/docker/demo.env").compose("build", "init")


@pytest.fixture
def gateway() -> Iterator[str]:
    """This machine's address on the network of the chart."""
    with network(NETWORK) as address:
        yield address


def start_database(folder: Path) -> None:
    """PostgreSQL, which the chart expects elsewhere."""
    secret = folder / "password"
    secret.write_text(PASSWORD)
    secret.chmod(0o644)
    given = [*DATABASE, "--env", "POSTGRES_PASSWORD_FILE=/run/password", "--volume", f"{secret}:/run/password:ro"]
    docker("run", "--detach", "--name", "chart-database", "--network", NETWORK, *given, "postgres:18.1-bookworm")
    ready = ("exec", "chart-database", "pg_isready", "--username=txwatch", "--dbname=txwatch", "--host=127.0.0.1")
    wait_until(lambda: docker_may(*ready), "the database is ready", look_every=0.5)


def stored() -> int:
    """How many transactions the feed has brought."""
    psql = ("psql", "--username=txwatch", "--dbname=txwatch", "--no-align", "--tuples-only", "--command", FOLLOWED)
    return int(docker("exec", "chart-database", *psql))


@pytest.mark.usefixtures("image")
def test_the_release_migrates_serves_and_follows_the_feed_by_the_job_of_a_run(
    tmp_path: Path, gateway: str, record: Record
) -> None:
    found = pods(VALUES)
    tmp_path.chmod(0o755)
    with record("started", STARTED), kubernetes(gateway) as (api, asked):
        start_database(tmp_path)
        secrets = {
            "DATABASE_URL": f"postgresql://txwatch:{PASSWORD}@chart-database:5432/txwatch",
            "TXWATCH_API_KEY": "k" * 24,
        }
        feed = {"TXWATCH_STREAM_URL": "ws://chart-feed:8765/inv", "TXWATCH_REST_URL": "http://chart-feed:8765"}
        node = Node(NETWORK, tmp_path, secrets, feed)
        given = instance(VALUES)
        given["run_launcher"]["config"] |= {"load_incluster_config": False, "kubeconfig_file": "/etc/txwatch/access"}
        node.instance.mkdir()
        (node.instance / "access").write_text(KUBECONFIG.format(url=api))
        (node.instance / "dagster.yaml").write_text(yaml.safe_dump(given))
        allowed = ("--env", "TXWATCH_ALLOWED_HOSTS=chart-feed")
        docker(
            "run", "--detach", "--name", "chart-feed", "--network", NETWORK, *allowed, "--tmpfs", "/data", IMAGE, *FEED
        )

        node.start("migrate", found["migrate"])
        assert node.ended("migrate") == 0, node.log("migrate")
        for name in ("mlflow", "code", "webserver", "daemon", "api", "dashboard"):
            node.start(name, found[name])
            node.wait(name, found[name])
        node.start("bot", found["bot"])

        wait_until(lambda: asked, "Dagster asks for the job of a shift", look_every=0.5)
        path, job = asked[0]
        assert path.endswith("/jobs")
        run = Pod({}, job["spec"]["template"]["spec"])
        assert "ingest_shift" in str(run.container["env"])
        node.start("run", run)

        def followed() -> bool:
            assert node.is_running("run"), node.log("run")[-3000:]
            return stored() > 0

        wait_until(followed, "the run follows the feed", look_every=0.5)
        for name in ("bot", "daemon", "code"):
            assert node.is_running(name), node.log(name)[-3000:]
        assert "bot_waits" in node.log("bot")
