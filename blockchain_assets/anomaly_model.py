"""`anomaly_model`: an Isolation Forest trained on the trailing day, or a day drawn from many, as challenger."""

from datetime import timedelta
from typing import Any

import dagster as dg
from pydantic import Field

from blockchain_assets import keys
from blockchain_assets.windows import OWNERS
from resources.database import DatabaseResource
from resources.feature_store import FeatureStoreResource
from resources.model_registry import ModelRegistryResource
from txwatch.alerts.samples import SAMPLE
from txwatch.archive.manifest import Archive
from txwatch.clock import WINDOW, utc_now, window_start
from txwatch.detection.training import HELD_OUT_AT_MOST, held_out_from, train
from txwatch.detection.training_days import DrawnDay, draw_day
from txwatch.features.contract import CONTRACT_VERSION, FEATURE_NAMES
from txwatch.lab.evaluation.examination import read_held_out, read_judged, teach_if_better

TRAINED_ON = timedelta(hours=24)
REFERENCE_ROWS = 50_000
"""About 2,000 for each hour of a day, so that the ordinary differences between hours are in the sample."""
SEED = 20_240_314
"""Fixed: the same data gives the same model."""


class Training(dg.Config):
    """What one training learns from."""

    days: int = Field(
        1, ge=1, le=3_660, description="1: the trailing day. More: a day of hours drawn from so many, archived or not."
    )


def anomaly_model_asset(
    alerts_per_hour: float, whale_btc: float, material_btc: float, archive: Archive | None = None
) -> dg.AssetsDefinition:
    @dg.asset(
        deps=[keys.TRANSACTION_FEATURES],
        group_name="models",
        owners=OWNERS,
        kinds={"scikitlearn", "mlflow"},
        code_version=f"contract {CONTRACT_VERSION}",
        pool="models",
        description="One pipeline (logarithms, StandardScaler, Isolation Forest) and the rows that neighbours are"
        " sought among, trained on the features of the trailing day as Feast retrieves them, or, with the config"
        " `days`, of a day whose hours are drawn from so many. The last hour is held out for the promotion gate, and it"
        " keeps what it learns from people's answers if that is better.\n\nLogged to MLflow, each training as a new"
        " version with the alias @challenger. Trained every night, for the first time once there is enough to learn"
        " from, and when drift lasts.",
    )
    def anomaly_model(
        context: dg.AssetExecutionContext,
        config: Training,
        database: DatabaseResource,
        feature_store: FeatureStoreResource,
        model_registry: ModelRegistryResource,
        mlflow: dg.ResourceParam[Any],
    ) -> dg.MaterializeResult:
        now = utc_now()
        drawn: DrawnDay | None = None
        if config.days > 1:
            trained_to = window_start(now) - HELD_OUT_AT_MOST
            with database.connect() as connection:
                drawn = draw_day(connection, archive, trained_to, config.days, SEED)
            frame, trained_from = drawn.frame, drawn.since
            for day in drawn.left_out:
                context.log.warning(f"Left out: {day}.")
        else:
            frame = feature_store.training_features(now - TRAINED_ON, now)
            seen = frame["seen_at"]
            first, last = (now, now) if frame.empty else (seen.min().to_pydatetime(), seen.max().to_pydatetime())
            trained_from, trained_to = window_start(first), held_out_from(first, window_start(last) + WINDOW)
            frame = frame[seen < trained_to]
        features = frame[list(FEATURE_NAMES)].to_numpy("float64")
        trained = train(
            features,
            trained_from,
            trained_to,
            alerts_per_hour=alerts_per_hour,
            whale_btc=whale_btc,
            material_btc=material_btc,
            seed=SEED,
            hours=drawn.hours if drawn else None,
            left_out=drawn.left_out if drawn else (),
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
                "left_out": "; ".join(card.left_out) or "nothing",
                **figures,
            }
        )

    return anomaly_model


training_job = dg.define_asset_job(
    "training",
    selection=[keys.ANOMALY_MODEL, keys.CHAMPION_MODEL],
    description="Trains a challenger on the trailing day, and judges whether it becomes champion.",
)
