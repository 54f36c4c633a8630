"""MLflow's files in S3: its server as docker-compose.yml starts it, against moto's real HTTP server."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.buckets import environment_of, s3_server
from tests.deploy import compose
from tests.deploy.processes import Processes, quiet_environment
from tests.ports import free_port
from tests.waiting import answers, wait_until

STORED = compose.read_env_file("deploy/docker/localstack.env")


@pytest.fixture(scope="module")
def s3() -> Iterator[Any]:
    """A server that speaks S3, with the bucket of the deployment, and a client of it."""
    with s3_server(STORED["MLFLOW_ARTIFACTS_DESTINATION"].split("/")[2]) as client:
        yield client


@pytest.fixture(scope="module")
def tracking_uri(database_url: str, s3: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """MLflow's server as the compose file states it for LocalStack, with moto in LocalStack's place."""
    folder = tmp_path_factory.mktemp("mlflow")
    service = compose.load(STORED | environment_of(s3))["services"]["mlflow"]
    machine = compose.Machine(folder, folder, frozenset(["mlflow", "localstack"]))
    subprocess.run([compose.PROJECT / "deploy/docker/make-secrets.sh", folder], check=True, capture_output=True)
    port = free_port()
    command = [word.replace("5000", str(port)) for word in machine.command(service)]
    environment = {name: value.replace(":5000", f":{port}") for name, value in machine.environment(service).items()} | {
        "DATABASE_URL": database_url
    }
    with Processes(folder / "logs") as processes:
        processes.start("mlflow", command, environment, folder)
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: answers(f"{url}/health"), "MLflow's server", look_every=0.5)
        yield url


CLIENT = """
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
from txwatch.detection.registry import EXPERIMENT, ModelRegistry
from txwatch.detection.training import train
from txwatch.features.contract import FEATURE_NAMES

registry = ModelRegistry.of(Path(sys.argv[2]), "postgresql://unused/unused", sys.argv[1])
registry.prepare()
mlflow.set_experiment(EXPERIMENT)
rows = np.random.default_rng(1).uniform(1, 1000, size=(64, len(FEATURE_NAMES)))
end = datetime(2026, 3, 1, tzinfo=UTC)
trained = train(rows, end - timedelta(hours=1), end, alerts_per_hour=12, whale_btc=500, seed=1, min_rows=1, trees=5)
pipeline, card = trained.pipeline, trained.card
with mlflow.start_run():
    version = registry.register(
        pipeline, card, parameters={"trees": 5}, metrics={"rows": 64.0}, reference=pd.DataFrame({"x": [1.0, 2.0]})
    )
registry.promote(version, {"why": "a test"})
champion = registry.champion()
assert champion.card == card
assert (champion.score(rows) == trained.model("here").score(rows)).all()
assert list(registry.reference(version)["x"]) == [1.0, 2.0]
"""


def test_a_model_goes_into_the_bucket_and_comes_back_the_same(tracking_uri: str, s3: Any, tmp_path: Path) -> None:
    environment = {name: value for name, value in quiet_environment().items() if not name.startswith("AWS_")}
    environment["PYTHONPATH"] = str(compose.PROJECT)
    done = subprocess.run(
        [sys.executable, "-c", CLIENT, tracking_uri, str(tmp_path / "home")],
        env=environment, cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    bucket, prefix = STORED["MLFLOW_ARTIFACTS_DESTINATION"].removeprefix("s3://").split("/")
    keys = [found["Key"] for found in s3.list_objects_v2(Bucket=bucket)["Contents"]]
    assert all(key.startswith(f"{prefix}/") for key in keys)
    assert {"model.skops", "card.json", "reference.parquet"} <= {key.rpartition("/")[2] for key in keys}
    # The client keeps nothing and has no key of the bucket: the server stands between, or gives addresses that expire.
    assert not (tmp_path / "home").exists()
