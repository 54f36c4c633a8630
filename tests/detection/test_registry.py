"""The registry keeps models without code: what comes out scores as what went in, and nothing else is ever loaded."""

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.conftest import HISTORY_START, Installation
from txwatch.clock import WINDOW
from txwatch.detection.model import ContractMismatchError, Model
from txwatch.detection.registry import EXPERIMENT, REGISTERED_MODEL, ModelRegistry, UnknownModelError
from txwatch.detection.training import TrainedModel, train
from txwatch.features.contract import FEATURE_NAMES

Floats = NDArray[np.float64]


@pytest.fixture(scope="module")
def template(prepared: str) -> str:
    """MLflow has its tables, and no model."""
    return prepared


@pytest.fixture(scope="module")
def registry(installation: Installation) -> ModelRegistry:
    """The installation's own, with files of its own."""
    return ModelRegistry.of(installation.home, installation.database_url, None)


@pytest.fixture(scope="module")
def features() -> Floats:
    """Skewed positive numbers, some of them unknown."""
    generator = np.random.default_rng(5)
    values = generator.lognormal(3, 2, (600, len(FEATURE_NAMES)))
    values[generator.random(values.shape) < 0.01] = np.nan
    return values


@pytest.fixture(scope="module")
def trained(features: Floats) -> TrainedModel:
    """A small model."""
    end = HISTORY_START + WINDOW
    return train(features, HISTORY_START, end, alerts_per_hour=12, whale_btc=500, seed=3, min_rows=1, trees=100)


def register(registry: ModelRegistry, trained: TrainedModel, features: Floats, **card: Any) -> str:
    import mlflow
    import pandas as pd

    registry.prepare()
    with mlflow.start_run(experiment_id=mlflow.get_experiment_by_name(EXPERIMENT).experiment_id):
        return registry.register(
            trained.pipeline,
            msgspec.structs.replace(trained.card, **card),
            parameters=trained.parameters,
            metrics={"threshold": trained.card.threshold},
            reference=pd.DataFrame(features, columns=list(FEATURE_NAMES)),
        )


@pytest.fixture(scope="module")
def version(registry: ModelRegistry, trained: TrainedModel, features: Floats) -> str:
    """The model, registered."""
    assert registry.challenger() is None
    assert registry.champion_version() is None
    return register(registry, trained, features)


def stored_file(registry: ModelRegistry, version: str) -> Path:
    """Where MLflow keeps the pipeline of a version."""
    import mlflow

    location = mlflow.MlflowClient(registry.tracking_uri).get_model_version_download_uri(REGISTERED_MODEL, version)
    return Path(location.removeprefix("file://")) / "model.skops"


def test_a_model_comes_back_with_the_same_scores_to_the_last_digit(
    registry: ModelRegistry, version: str, trained: TrainedModel, features: Floats
) -> None:
    model = registry.challenger()
    assert model is not None
    assert model.version == version
    assert model.card == trained.card
    assert np.array_equal(model.score(features), Model("1", trained.pipeline, trained.card).score(features))
    np.testing.assert_array_equal(registry.reference(version).to_numpy(), features)


def test_nothing_stored_is_a_pickle(registry: ModelRegistry, version: str) -> None:
    folder = stored_file(registry, version).parent
    assert folder.is_dir()
    assert [p.name for p in folder.rglob("*") if p.suffix in {".pkl", ".pickle", ".joblib"}] == []


def test_a_version_is_named_by_its_number_or_an_alias(registry: ModelRegistry, version: str) -> None:
    assert registry.named(version).version == registry.named("challenger").version == version
    with pytest.raises(UnknownModelError, match=r"no model version or alias '77'\. Versions: 1"):
        registry.named("77")


def test_a_refusal_is_kept_with_its_reasons_and_moves_no_alias(registry: ModelRegistry, version: str) -> None:
    import mlflow

    registry.refuse(version, {"checks": {"stable_between_seeds": {"passed": False, "reason": "agreement is 0.31"}}})
    assert registry.champion_version() is None
    client = mlflow.MlflowClient(registry.tracking_uri)
    registered = client.get_model_version(REGISTERED_MODEL, version)
    assert registered.tags["decision"] == "refused"
    decision = mlflow.artifacts.load_dict(f"{client.get_run(registered.run_id).info.artifact_uri}/decision.json")
    assert decision["checks"]["stable_between_seeds"]["reason"] == "agreement is 0.31"


def test_aliases_move_one_by_one(
    registry: ModelRegistry, version: str, trained: TrainedModel, features: Floats
) -> None:
    registry.promote(version, {"alert_rate_within_budget": {"alerts": 1}})
    later = register(registry, trained, features)
    champion, challenger = registry.champion(), registry.challenger()
    assert champion is not None
    assert challenger is not None
    assert (champion.version, challenger.version) == (version, later)
    shadow = registry.shadow(champion)
    assert shadow is not None
    assert shadow.version == later
    registry.promote(later, {})
    assert registry.shadow(registry.load(later)) is None
    registry.promote(version, {"why": "rolled back"})
    assert registry.champion_version() == version
    assert int(later) == int(version) + 1


class Unexpected:
    """A type that no model of ours is made of."""


def test_a_type_that_the_stored_file_names_is_not_loaded(
    registry: ModelRegistry, trained: TrainedModel, features: Floats
) -> None:
    import skops.io
    from skops.io.exceptions import UntrustedTypesFoundException

    later = register(registry, trained, features)
    skops.io.dump([trained.pipeline, Unexpected()], stored_file(registry, later))
    with pytest.raises(UntrustedTypesFoundException, match="Unexpected"):
        registry.load(later)


class Tripwire:
    """Its unpickling leaves a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_pickle_in_the_place_of_a_model_is_not_loaded(
    registry: ModelRegistry, trained: TrainedModel, features: Floats, tmp_path: Path
) -> None:
    later = register(registry, trained, features)
    path = stored_file(registry, later)
    path.write_bytes(pickle.dumps(Tripwire(tmp_path / "run")))
    (path.parent / "model.pkl").write_bytes(path.read_bytes())
    with pytest.raises(Exception, match="zip"):
        registry.load(later)
    assert not (tmp_path / "run").exists()


def test_a_model_of_other_features_is_refused_with_both_fingerprints(
    registry: ModelRegistry, trained: TrainedModel, features: Floats
) -> None:
    later = register(registry, trained, features, contract="0123456789ab")
    with pytest.raises(ContractMismatchError, match=f"version {later} .* 0123456789ab, .*{trained.card.contract}"):
        registry.challenger()


def test_its_address_is_not_shown() -> None:
    registry = ModelRegistry.of(Path(), "postgresql://somebody:sesame@127.0.0.1/x", None)
    assert "sesame" not in repr(registry)
    assert "sesame" not in repr(replace(registry, tracking_uri="https://somebody:sesame@127.0.0.1"))
