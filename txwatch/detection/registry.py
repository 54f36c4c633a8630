"""The models in MLflow's registry: store a challenger, load the champion, list the versions, promote.

A model is stored as skops, which holds no code, and is read back here with a fixed list of types: neither a pickle nor
a type that the stored file itself names is ever loaded. MLflow's import takes seconds, so it happens in the functions.
"""

import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from txwatch.detection.model import ContractMismatchError, Model, ModelCard
from txwatch.errors import UserError
from txwatch.features.contract import contract_fingerprint
from txwatch.settings import Settings
from txwatch.store.database import process_pool, scalar, sqlalchemy_url, table_exists, with_schema
from txwatch.store.locks import Lock, wait_for
from txwatch.store.migrate import TOO_NEW, SchemaTooNewError, known_revisions

if TYPE_CHECKING:
    import pandas as pd
    from alembic.script import ScriptDirectory
    from mlflow import MlflowClient

EXPERIMENT = "txwatch"
REGISTERED_MODEL = "txwatch"
CHALLENGER, CHAMPION = "challenger", "champion"
TRUSTED_TYPES = ["numpy.dtype", "sklearn.tree._tree.Tree"]
"""What skops does not trust by itself and an Isolation Forest needs: arrays of numbers, and trees of them."""

_CARD, _REFERENCE = "card.json", "reference.parquet"


class UnknownModelError(UserError):
    """A model that was never registered."""


@dataclass(frozen=True)
class ModelRegistry:
    """A registry at `tracking_uri`. `artifacts` is where a local experiment keeps its files; a server has its own."""

    tracking_uri: str = field(repr=False)
    artifacts: Path

    @classmethod
    def of(cls, home: Path, database_url: str, tracking_uri: str | None) -> "ModelRegistry":
        """The registry of an installation: a server's if there is one, else the tables in its own database."""
        return cls(
            tracking_uri or with_schema(sqlalchemy_url(database_url), "mlflow"), home.resolve() / "mlflow" / "artifacts"
        )

    def prepare(self) -> None:
        """Make or upgrade MLflow's tables, and make the experiment. Safe to repeat. Raises SchemaTooNewError."""
        if not self.tracking_uri.startswith("postgresql"):
            self._make_experiment(None)
            return
        pool = process_pool(self.tracking_uri, application="txwatch registry")
        with pool.connection() as connection, connection.transaction():
            # Two processes at once would both try to create the tables.
            wait_for(connection, Lock.REGISTRY)
            upgrade_tables(self.tracking_uri)
            self.artifacts.mkdir(parents=True, exist_ok=True)
            self._make_experiment(self.artifacts.resolve().as_uri())

    def _make_experiment(self, location: str | None) -> None:
        if self.client().get_experiment_by_name(EXPERIMENT) is None:
            self.client().create_experiment(EXPERIMENT, artifact_location=location)

    def register(
        self,
        pipeline: Any,
        card: ModelCard,
        *,
        parameters: Mapping[str, Any],
        metrics: Mapping[str, float],
        reference: "pd.DataFrame",
    ) -> str:
        """Log a trained model to MLflow's active run, register it as challenger, and return its version.

        `reference` is a sample of what it was trained on, against which later traffic is compared.
        """
        import mlflow
        import mlflow.sklearn

        mlflow.log_params(dict(parameters))
        mlflow.log_metrics(dict(metrics))
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / _CARD).write_bytes(card.to_json())
            reference.to_parquet(Path(folder) / _REFERENCE)
            mlflow.log_artifacts(folder)
        logged = mlflow.sklearn.log_model(
            pipeline,
            name="model",
            serialization_format="skops",
            skops_trusted_types=TRUSTED_TYPES,
            registered_model_name=REGISTERED_MODEL,
            # Given, for finding them out would load the model in a process of its own.
            pip_requirements=["scikit-learn", "skops"],
        )
        version = str(logged.registered_model_version)
        self.client().set_registered_model_alias(REGISTERED_MODEL, CHALLENGER, version)
        return version

    def champion_version(self) -> str | None:
        """The version that scores, None before the first promotion."""
        return self._aliased(CHAMPION)

    def champion_fits(self) -> bool:
        """Whether there is a champion, of the feature contract at hand: after an upgrade it may be of another one."""
        version = self.champion_version()
        if version is None:
            return False
        run = self.client().get_run(self.client().get_model_version(REGISTERED_MODEL, version).run_id)
        return bool(run.data.params.get("contract") == contract_fingerprint())

    def champion(self) -> Model | None:
        """The model that scores, None before the first promotion. Raises ContractMismatchError."""
        return self._load_aliased(CHAMPION)

    def challenger(self) -> Model | None:
        """The newest trained model, None before the first training. Raises ContractMismatchError."""
        return self._load_aliased(CHALLENGER)

    def shadow(self, champion: Model) -> Model | None:
        """The challenger, if it is another model than the champion and fits the features at hand."""
        version = self._aliased(CHALLENGER)
        if version is None or version == champion.version:
            return None
        try:
            return self.load(version)
        except ContractMismatchError:
            return None

    def named(self, name: str) -> Model:
        """A version by its number or by an alias. Raises UnknownModelError, ContractMismatchError."""
        known = [str(v.version) for v in self.client().search_model_versions(f"name = '{REGISTERED_MODEL}'")]
        version = name if name in known else self._aliased(name)
        if version is None:
            there = ", ".join(sorted(known, key=int)) or "none"
            raise UnknownModelError(f"There is no model version or alias {name!r}. Versions: {there}.")
        return self.load(version)

    def load(self, version: str) -> Model:
        """One version, ready to score. Raises MlflowException if it does not exist, ContractMismatchError."""
        import mlflow.artifacts
        import skops.io

        card = mlflow.artifacts.load_text(self._artifact(version, _CARD))
        with tempfile.TemporaryDirectory() as folder:
            path = mlflow.artifacts.download_artifacts(
                f"models:/{REGISTERED_MODEL}/{version}", dst_path=folder, tracking_uri=self.tracking_uri
            )
            pipeline = skops.io.load(Path(path) / "model.skops", trusted=TRUSTED_TYPES)
        try:
            return Model(version, pipeline, ModelCard.from_json(card))
        except msgspec.ValidationError as error:
            raise ContractMismatchError(
                f"model version {version} was trained by another version of the program: {error}"
            ) from error

    def reference(self, version: str) -> "pd.DataFrame":
        """The sample of its training data that was kept with a version."""
        import mlflow.artifacts
        import pandas as pd

        with tempfile.TemporaryDirectory() as folder:
            path = mlflow.artifacts.download_artifacts(self._artifact(version, _REFERENCE), dst_path=folder)
            return pd.read_parquet(path)

    def promote(self, version: str, decision: Mapping[str, Any]) -> None:
        """Make a version the champion, and keep with it what the decision was based on."""
        self.client().set_registered_model_alias(REGISTERED_MODEL, CHAMPION, version)
        self._decide(version, "promoted", decision)

    def refuse(self, version: str, decision: Mapping[str, Any]) -> None:
        """Leave the champion as it is, and keep with the refused version why."""
        self._decide(version, "refused", decision)

    def _decide(self, version: str, verdict: str, decision: Mapping[str, Any]) -> None:
        client = self.client()
        client.set_model_version_tag(REGISTERED_MODEL, version, "decision", verdict)
        run = client.get_model_version(REGISTERED_MODEL, version).run_id
        client.log_dict(run, {"decision": verdict, **decision}, "decision.json")

    def _load_aliased(self, alias: str) -> Model | None:
        version = self._aliased(alias)
        return None if version is None else self.load(version)

    def _aliased(self, alias: str) -> str | None:
        if self.tracking_uri.startswith("postgresql"):
            return _alias_in_tables(self.tracking_uri, alias)
        for model in self.client().search_registered_models(f"name = '{REGISTERED_MODEL}'"):
            version = model.aliases.get(alias)
            return None if version is None else str(version)
        return None

    def _artifact(self, version: str, name: str) -> str:
        run = self.client().get_model_version(REGISTERED_MODEL, version).run_id
        return f"{self.client().get_run(run).info.artifact_uri}/{name}"

    def client(self) -> "MlflowClient":
        """MLflow's client on this registry."""
        import mlflow

        mlflow.set_tracking_uri(self.tracking_uri)
        return _client_of(self.tracking_uri)


def _alias_in_tables(tracking_uri: str, alias: str) -> str | None:
    """What an alias names, by MLflow's own tables: the live lane asks four times a second, without MLflow's import."""
    with process_pool(tracking_uri, application="txwatch registry").connection() as connection:
        if not table_exists(connection, "registered_model_aliases"):
            return None
        query = "SELECT version::text FROM registered_model_aliases WHERE name = %s AND alias = %s"
        version: str | None = scalar(connection, query, [REGISTERED_MODEL, alias])
        return version


def upgrade_tables(tables: str) -> None:
    """Bring MLflow's tables, by their SQLAlchemy URL, to the version of MLflow that is installed.

    Does nothing where there are none. Raises SchemaTooNewError.
    """
    import sqlalchemy as sa
    from alembic.migration import MigrationContext

    engine = sa.create_engine(tables, poolclass=sa.NullPool)
    with engine.connect() as connection:
        current = MigrationContext.configure(connection).get_current_revision()
    if current is None:
        return
    scripts = table_migrations()
    if current not in known_revisions(scripts):
        raise SchemaTooNewError(f"MLflow's schema is {current}, {TOO_NEW}")
    if current != scripts.get_current_head():
        from mlflow.store.db.utils import _upgrade_db

        _upgrade_db(engine)


def table_migrations() -> "ScriptDirectory":
    """The migrations of MLflow's tables, as MLflow brings them."""
    from alembic.script import ScriptDirectory
    from mlflow.store.db.utils import _get_alembic_config

    return ScriptDirectory.from_config(_get_alembic_config(""))


@lru_cache(maxsize=4)
def _client_of(tracking_uri: str) -> "MlflowClient":
    # A new client takes as long as its question.
    import mlflow

    return mlflow.MlflowClient(tracking_uri)


def comparable_champion(registry: ModelRegistry) -> Model | None:
    """The champion, None if there is none or if it was trained on another feature contract."""
    try:
        return registry.champion()
    except ContractMismatchError:
        return None


@dataclass(frozen=True)
class ModelVersion:
    """One trained version. Aliases are champion and challenger; `decision` is the gate's. UTC."""

    version: str
    created_at: datetime
    aliases: list[str]
    decision: str | None
    parameters: dict[str, str]
    metrics: dict[str, float]
    run_id: str


def list_versions(registry: ModelRegistry) -> list[ModelVersion]:
    """All versions, the newest first."""
    client = registry.client()
    models = client.search_registered_models(f"name = '{REGISTERED_MODEL}'")
    aliases = {alias: str(version) for alias, version in (models[0].aliases if models else {}).items()}
    found = client.search_model_versions(f"name = '{REGISTERED_MODEL}'")
    return sorted((_version(client, one, aliases) for one in found), key=lambda v: int(v.version), reverse=True)


def _version(client: Any, registered: Any, aliases: Mapping[str, str]) -> ModelVersion:
    run, version = client.get_run(registered.run_id), str(registered.version)
    return ModelVersion(
        version=version,
        created_at=datetime.fromtimestamp(registered.creation_timestamp / 1000, UTC),
        aliases=[alias for alias in (CHALLENGER, CHAMPION) if aliases.get(alias) == version],
        decision=registered.tags.get("decision"),
        parameters=dict(run.data.params),
        metrics={name: float(value) for name, value in run.data.metrics.items()},
        run_id=str(registered.run_id),
    )


if __name__ == "__main__":
    settings = Settings()
    try:
        ModelRegistry.of(settings.home, settings.require_database_url(), settings.mlflow_tracking_uri).prepare()
    except UserError as error:
        sys.exit(str(error))
