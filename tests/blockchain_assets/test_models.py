"""`anomaly_model` and `champion_model`: a challenger from the trailing day, and the gate that it must pass."""

import dagster as dg
import pytest

from blockchain_assets.anomaly_model import REFERENCE_ROWS
from tests.conftest import History, Installation
from tests.materializing import checks, failure, materialize, metadata
from txwatch.detection.registry import EXPERIMENT, ModelRegistry
from txwatch.features.contract import FEATURE_NAMES, contract_fingerprint
from txwatch.store.database import connect
from txwatch.windows import WINDOW


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
    assert facts["trained_to"] == history.end.timestamp()
    hours = (history.end - history.start) / (12 * WINDOW)
    assert facts["transactions_per_hour"] == pytest.approx(facts["rows"] / hours)

    challenger = registry.challenger()
    assert challenger is not None
    assert (challenger.version, challenger.threshold) == ("1", facts["threshold"])
    assert registry.champion() is None
    reference = registry.reference("1")
    assert list(reference.columns) == list(FEATURE_NAMES)
    assert len(reference) == min(facts["rows"], REFERENCE_ROWS)

    judged = materialize(dagster_instance, "champion_model")
    assert judged.success
    assert metadata(judged, "champion_model") == {
        "champion_version": "1",
        "challenger_version": "1",
        "decision": "promoted",
        "threshold": facts["threshold"],
    }
    assert {name: check.passed for name, check in checks(judged).items()} == {
        "alert_rate_within_budget": True,
        "scores_tell_apart": True,
    }
    assert registry.champion_version() == "1"


def test_a_challenger_that_fails_the_gate_leaves_the_champion(
    installation: Installation, dagster_instance: dg.DagsterInstance, registry: ModelRegistry
) -> None:
    assert materialize(dagster_instance, "anomaly_model").success
    # Traffic of one kind only: no model can tell anything apart in it.
    with connect(installation.database_url) as connection, connection.transaction():
        connection.execute("CREATE TABLE kept AS TABLE transaction_features")
        alike = ", ".join(f"{name} = 1" for name in FEATURE_NAMES)
        connection.execute(f"UPDATE transaction_features SET {alike}")  # noqa: S608
    try:
        judged = materialize(dagster_instance, "champion_model")
    finally:
        with connect(installation.database_url) as connection, connection.transaction():
            connection.execute("TRUNCATE transaction_features")
            connection.execute("INSERT INTO transaction_features TABLE kept")
            connection.execute("DROP TABLE kept")
    assert judged.success
    facts = metadata(judged, "champion_model")
    assert (facts["champion_version"], facts["challenger_version"]) == ("1", "2")
    assert facts["decision"] == "kept the champion"
    check = checks(judged)["scores_tell_apart"]
    assert not check.passed
    assert check.metadata["spread"].value == 0
    assert registry.champion_version() == "1"


def test_too_little_traffic_fails_the_training_and_its_mlflow_run(
    installation: Installation, dagster_instance: dg.DagsterInstance, registry: ModelRegistry
) -> None:
    with connect(installation.database_url) as connection:
        connection.execute("DELETE FROM transaction_features WHERE txid > '1'")
    result = materialize(dagster_instance, "anomaly_model")
    assert not result.success
    assert "training wants 5000: let the feed run on, or land a capture" in failure(result)
    assert mlflow_status(registry, result.run_id) == "FAILED"
    assert registry.champion_version() == "1"
