"""`anomaly_model`: an Isolation Forest trained on the trailing day, registered as challenger."""

from datetime import timedelta
from typing import Any

import dagster as dg

from blockchain_assets import keys
from blockchain_assets.windows import OWNERS
from resources.database import DatabaseResource
from resources.feature_store import FeatureStoreResource
from resources.model_registry import ModelRegistryResource
from txwatch.alerts.samples import SAMPLE
from txwatch.clock import WINDOW, utc_now, window_start
from txwatch.detection.training import held_out_from, train
from txwatch.features.contract import CONTRACT_VERSION, FEATURE_NAMES
from txwatch.lab.evaluation.examination import read_held_out, read_judged
from txwatch.lab.evaluation.teaching import teach_if_better

TRAINED_ON = timedelta(hours=24)
REFERENCE_ROWS = 50_000
"""About 2,000 for each hour of a day, so that the ordinary differences between hours are in the sample."""
SEED = 20_240_314
"""Fixed: the same data gives the same model."""


def anomaly_model_asset(alerts_per_hour: float, whale_btc: float, material_btc: float) -> dg.AssetsDefinition:
    @dg.asset(
        deps=[keys.TRANSACTION_FEATURES],
        group_name="models",
        owners=OWNERS,
        kinds={"scikitlearn", "mlflow"},
        code_version=f"contract {CONTRACT_VERSION}",
        pool="models",
        description="One pipeline (logarithms, StandardScaler, Isolation Forest) and the rows that neighbours are"
        " sought among, trained on the features of the trailing day as Feast retrieves them. The last hour is held"
        " out for the promotion gate, and it keeps what it learns from people's answers if that is better.\n\nLogged"
        " to MLflow, each training as a new version with the alias @challenger. Trained every night, for the first"
        " time once there is enough to learn from, and when drift lasts.",
    )
    def anomaly_model(
        context: dg.AssetExecutionContext,
        database: DatabaseResource,
        feature_store: FeatureStoreResource,
        model_registry: ModelRegistryResource,
        mlflow: dg.ResourceParam[Any],
    ) -> dg.MaterializeResult:
        now = utc_now()
        frame = feature_store.training_features(now - TRAINED_ON, now)
        seen = frame["seen_at"]
        first, last = (now, now) if frame.empty else (seen.min().to_pydatetime(), seen.max().to_pydatetime())
        trained_to = held_out_from(first, window_start(last) + WINDOW)
        frame = frame[seen < trained_to]
        features = frame[list(FEATURE_NAMES)].to_numpy("float64")
        trained = train(
            features,
            window_start(first),
            trained_to,
            alerts_per_hour=alerts_per_hour,
            whale_btc=whale_btc,
            material_btc=material_btc,
            seed=SEED,
        )
        with database.connect() as connection:
            held_out = read_held_out(connection, trained_to, window_start(now))
            judged = read_judged(connection, ("forest", SAMPLE))
        lesson = teach_if_better(trained, features, judged, held_out, whale_btc=whale_btc)
        trained = lesson.trained
        card = trained.card
        figures = {"threshold": card.threshold, "rows": card.rows, "seed_agreement": card.seed_agreement}
        sample = frame.sample(min(REFERENCE_ROWS, len(frame)), random_state=SEED)
        version = model_registry.open().register(
            trained.pipeline,
            card,
            parameters=trained.parameters,
            metrics=figures,
            reference=sample[["seen_at", *FEATURE_NAMES]],
        )
        mlflow.end_run()
        context.log.info(f"Registered version {version} as challenger; {lesson.outcome}.")
        return dg.MaterializeResult(
            metadata={
                "model_version": version,
                "trained_from": dg.MetadataValue.timestamp(card.trained_from),
                "trained_to": dg.MetadataValue.timestamp(card.trained_to),
                "transactions_per_hour": card.transactions_per_hour,
                "alerts_per_hour": card.alerts_per_hour,
                "contract": card.contract,
                "answers": lesson.outcome,
                **figures,
            }
        )

    return anomaly_model


training_job = dg.define_asset_job(
    "training",
    selection=[keys.ANOMALY_MODEL, keys.CHAMPION_MODEL],
    description="Trains a challenger on the trailing day, and judges whether it becomes champion.",
)
