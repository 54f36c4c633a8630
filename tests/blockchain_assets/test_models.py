"""`anomaly_model` and `champion_model`: a challenger from the trailing day, and the gate that it must pass."""

from datetime import datetime
from typing import Any

import dagster as dg
import numpy as np
import pytest
from numpy.typing import NDArray

from blockchain_assets.anomaly_model import REFERENCE_ROWS
from tests.conftest import History, Installation
from tests.materializing import checks, failure, materialize, metadata
from tests.modelling import features
from txwatch.clock import WINDOW
from txwatch.detection.gate import CHECKS
from txwatch.detection.registry import EXPERIMENT, REGISTERED_MODEL, ModelRegistry
from txwatch.detection.training import train
from txwatch.features.contract import FEATURE_NAMES, contract_fingerprint
from txwatch.features.store import read_recent_features
from txwatch.store.database import connect


@pytest.fixture(scope="module")
def template(featured: str) -> str:
    """The history has features, and there is no model."""
    return featured


@pytest.fixture(scope="module")
def registry(installation: Installation) -> ModelRegistry:
    """The installation's own."""
    return ModelRegistry.of(installation.home, installation.database_url, None)


def mlflow_status(registry: ModelRegistry, dagster_run_id: str) -> str:
    """How MLflow's run of a Dagster run ended."""
    import mlflow

    client = mlflow.MlflowClient(registry.tracking_uri)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    (run,) = client.search_runs([experiment.experiment_id], f"tags.dagster_run_id = '{dagster_run_id}'")
    return str(run.info.status)


def test_without_a_champion_nothing_is_scored(dagster_instance: dg.DagsterInstance, history: History) -> None:
    result = materialize(dagster_instance, "transaction_scores", windows=history.windows[:1])
    assert not result.success
    assert "There is no champion to score with: materialize anomaly_model, then champion_model." in failure(result)


def test_without_a_challenger_there_is_nothing_to_judge(dagster_instance: dg.DagsterInstance) -> None:
    result = materialize(dagster_instance, "champion_model")
    assert not result.success
    assert "materialize anomaly_model first" in failure(result)


def test_a_challenger_is_trained_and_the_first_to_pass_is_promoted(
    dagster_instance: dg.DagsterInstance, registry: ModelRegistry, history: History
) -> None:
    trained = materialize(dagster_instance, "anomaly_model")
    assert trained.success
    assert mlflow_status(registry, trained.run_id) == "FINISHED"
    facts = metadata(trained, "anomaly_model")
    assert (facts["model_version"], facts["contract"]) == ("1", contract_fingerprint())
    assert facts["trained_from"] == history.start.timestamp()
    assert facts["answers"] == "0 answers: it learns from 20 on"
    held_out = history.windows[-2:]
    assert facts["trained_to"] == held_out[0].timestamp()
    hours = (held_out[0] - history.start) / (12 * WINDOW)
    assert facts["transactions_per_hour"] == pytest.approx(facts["rows"] / hours)

    challenger = registry.challenger()
    assert challenger is not None
    assert (challenger.version, challenger.threshold) == ("1", facts["threshold"])
    assert registry.champion() is None
    reference = registry.reference("1")
    assert list(reference.columns) == ["seen_at", *FEATURE_NAMES]
    assert reference["seen_at"].max() < held_out[0]
    assert len(reference) == min(facts["rows"], REFERENCE_ROWS)

    judged = materialize(dagster_instance, "champion_model")
    assert judged.success
    decided = metadata(judged, "champion_model")
    assert (decided["champion_version"], decided["challenger_version"]) == ("1", "1")
    assert (decided["decision"], decided["reasons"]) == ("promoted", "It passed every check.")
    assert decided["comparison"].startswith("| figure | version 1 |")
    assert {name: check.passed for name, check in checks(judged).items()} == dict.fromkeys(CHECKS, True)
    assert registry.champion_version() == "1"


def register(registry: ModelRegistry, rows: NDArray[np.float64], until: datetime, **options: Any) -> str:
    """Train a model on these rows and register it as the challenger, as the asset does."""
    import mlflow
    import pandas as pd

    start = until - 6 * WINDOW
    trained = train(rows, start, until, alerts_per_hour=12, whale_btc=500, seed=5, **options)
    with mlflow.start_run(experiment_id=mlflow.get_experiment_by_name(EXPERIMENT).experiment_id):
        sample = pd.DataFrame(rows, columns=list(FEATURE_NAMES)).assign(seen_at=start)
        return registry.register(
            trained.pipeline, trained.card, parameters=trained.parameters, metrics={}, reference=sample
        )


def decision(registry: ModelRegistry, version: str) -> dict[str, Any]:
    """What MLflow keeps of a version's judgement."""
    import mlflow

    client = mlflow.MlflowClient(registry.tracking_uri)
    run = client.get_run(client.get_model_version(REGISTERED_MODEL, version).run_id)
    return dict(mlflow.artifacts.load_dict(f"{run.info.artifact_uri}/decision.json"))


def test_a_worse_challenger_is_refused_with_reasons_and_scores_in_shadow(
    installation: Installation, dagster_instance: dg.DagsterInstance, registry: ModelRegistry, history: History
) -> None:
    with connect(installation.database_url) as connection:
        rows = read_recent_features(connection, history.start)
    version = register(registry, rows, history.windows[-2], trees=5)
    judged = materialize(dagster_instance, "champion_model")
    assert judged.success
    facts = metadata(judged, "champion_model")
    assert (facts["champion_version"], facts["challenger_version"], facts["decision"]) == ("1", version, "refused")
    assert "agreement of two seeds is 0." in facts["reasons"]
    check = checks(judged)["stable_between_seeds"]
    assert not check.passed
    assert check.metadata["value"].value < check.metadata["bound"].value
    kept = decision(registry, version)
    assert (kept["decision"], kept["champion"]) == ("refused", "1")
    assert set(kept["showings"]) == {"1", version}
    assert registry.champion_version() == "1"

    scored = materialize(dagster_instance, "transaction_scores", windows=history.windows[-1:])
    facts = metadata(scored, "transaction_scores")
    assert (facts["model_version"], facts["shadow_version"]) == ("1", version)
    with connect(installation.database_url) as connection:
        lanes = connection.execute(
            "SELECT model_version, lane, count(*) FROM transaction_scores GROUP BY 1, 2 ORDER BY 1"
        ).fetchall()
        assert lanes == [("1", "window", facts["scored"]), (version, "shadow", facts["scored"])]


def test_a_better_challenger_takes_the_place_of_a_champion_of_another_month(
    installation: Installation,
    dagster_instance: dg.DagsterInstance,
    registry: ModelRegistry,
    history: History,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # How far they agree depends on the traffic of the moment: tests/detection/test_gate.py asks it of one history.
    monkeypatch.setattr("txwatch.detection.gate.MIN_AGREEMENT", 0.0)
    stale = register(registry, features("2024-10", minutes=20), history.windows[-2])
    registry.promote(stale, {"why": "to be replaced"})
    with connect(installation.database_url) as connection:
        rows = read_recent_features(connection, history.start)
    better = register(registry, rows, history.windows[-2])
    judged = materialize(dagster_instance, "champion_model")
    facts = metadata(judged, "champion_model")
    assert facts["decision"] == "promoted"
    assert registry.champion_version() == facts["challenger_version"] == better
    assert f"| figure | version {facts['challenger_version']} | version {stale} |" in facts["comparison"]

    registry.promote(stale, {"why": "rolled back"})
    scored = materialize(dagster_instance, "transaction_scores", windows=history.windows[-2:-1])
    assert metadata(scored, "transaction_scores")["model_version"] == stale, "a rollback is an alias that moves"
    registry.promote(facts["challenger_version"], {})


def test_too_little_traffic_fails_the_training_and_its_mlflow_run(
    installation: Installation, dagster_instance: dg.DagsterInstance, registry: ModelRegistry
) -> None:
    champion = registry.champion_version()
    with connect(installation.database_url) as connection:
        connection.execute("DELETE FROM transaction_features WHERE txid > '1'")
    result = materialize(dagster_instance, "anomaly_model")
    assert not result.success
    assert "training wants 3000: let the feed run on, or land a capture" in failure(result)
    assert mlflow_status(registry, result.run_id) == "FAILED"
    assert registry.champion_version() == champion
