"""The code location: every asset, check, job, schedule, sensor and resource, wired once. Nothing else wires."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from blockchain_assets.address_activity import address_activity_asset
from blockchain_assets.alerts import alerts_asset
from blockchain_assets.anomaly_model import anomaly_model_asset, training_job
from blockchain_assets.champion_model import champion_model
from blockchain_assets.jobs import deliver_alerts_job, ingest_shift_job, raise_alerts_job, score_windows_job
from blockchain_assets.network_baseline import network_baseline_asset
from blockchain_assets.partitions import window_partitions
from blockchain_assets.schedules import daily_training
from blockchain_assets.transaction_features import transaction_features_asset
from blockchain_assets.transaction_scores import transaction_scores_asset
from blockchain_assets.transactions import transactions_asset
from blockchain_assets.windows import shared_backfills
from resources.database import DatabaseResource
from resources.feature_store import FeatureStoreResource
from resources.ingestion import IngestionResource
from resources.mlflow_run import mlflow_run
from resources.model_registry import ModelRegistryResource
from resources.telegram import TelegramResource
from sensors.alerts import alert_sensor, delivery_sensor
from sensors.failures import run_failure_sensor
from sensors.health import health_sensor
from sensors.keeper import keeper_sensor
from sensors.landing import landing_sensor
from sensors.promotion import promotion_sensor
from sensors.scoring import scoring_sensor
from sensors.training import first_training_sensor
from txwatch.settings import Settings


def default_resources(settings: Settings) -> dict[str, Any]:
    """The real ones. The database's URL is named, not copied, so that no page of the UI can show it."""
    database = DatabaseResource(url=dg.EnvVar("DATABASE_URL"))
    return {
        "database": database,
        "ingestion": IngestionResource(database=database, stream_url=settings.stream_url),
        "feature_store": FeatureStoreResource(database_url=dg.EnvVar("DATABASE_URL")),
        "model_registry": ModelRegistryResource(
            home=str(settings.home.resolve()),
            database_url=dg.EnvVar("DATABASE_URL"),
            tracking_uri=dg.EnvVar("MLFLOW_TRACKING_URI") if settings.mlflow_tracking_uri else None,
        ),
        "telegram": TelegramResource(
            token="" if settings.telegram_bot_token is None else dg.EnvVar("TELEGRAM_BOT_TOKEN"),
            chats=list(settings.telegram_chats),
            api_url=settings.telegram_api_url,
        ),
        "mlflow": mlflow_run,
    }


def build_defs(settings: Settings, resources: Mapping[str, Any] | None = None) -> dg.Definitions:
    """The definitions under these settings. `resources` replaces some by name, so that a test need not patch."""
    windows = window_partitions(settings.first_window)
    return dg.Definitions(
        assets=[
            transactions_asset(windows),
            network_baseline_asset(windows),
            address_activity_asset(windows),
            shared_backfills(transaction_features_asset(windows), settings.backfill_windows),
            shared_backfills(transaction_scores_asset(windows, settings.whale_btc), settings.backfill_windows),
            alerts_asset(windows),
            anomaly_model_asset(settings.alerts_per_hour),
            champion_model,
        ],
        jobs=[ingest_shift_job, score_windows_job, raise_alerts_job, deliver_alerts_job, training_job],
        schedules=[daily_training],
        sensors=[
            keeper_sensor,
            landing_sensor(settings.first_window),
            scoring_sensor,
            alert_sensor,
            delivery_sensor,
            first_training_sensor,
            promotion_sensor,
            run_failure_sensor,
            health_sensor(settings.home.resolve()),
        ],
        resources=default_resources(settings) | dict(resources or {}),
        executor=dg.in_process_executor,
    )


@dg.definitions
def defs() -> dg.Definitions:
    """What Dagster loads: the settings are read now, not when this module is imported."""
    return build_defs(Settings())
