"""The code location: every asset, check, job, schedule, sensor and resource, wired in this one place."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from blockchain_assets import keys
from blockchain_assets.address_activity import address_activity_asset
from blockchain_assets.alerts import alerts_asset
from blockchain_assets.anomaly_model import anomaly_model_asset, training_job
from blockchain_assets.archive import archive_assets, archive_job
from blockchain_assets.backtest import backtest_asset, backtest_job
from blockchain_assets.blocks import blocks, recovery_job
from blockchain_assets.champion_model import champion_model_asset
from blockchain_assets.drift_report import drift_job, drift_report_asset
from blockchain_assets.jobs import (
    deliver_alerts_job,
    ingest_shift_job,
    raise_alerts_job,
    sample_job,
    score_windows_job,
)
from blockchain_assets.maintenance import maintenance_job
from blockchain_assets.network_baseline import network_baseline_asset
from blockchain_assets.partitions import recorded_start, window_partitions
from blockchain_assets.restore_drill import restore_drill_job
from blockchain_assets.schedules import daily_maintenance, daily_sample, daily_training, hourly_drift_report
from blockchain_assets.transaction_features import transaction_features_asset
from blockchain_assets.transaction_scores import transaction_scores_asset
from blockchain_assets.transactions import transactions_asset
from blockchain_assets.windows import newest_in_time, shared_backfills
from resources.database import DatabaseResource
from resources.feature_store import FeatureStoreResource
from resources.ingestion import IngestionResource
from resources.mlflow_run import mlflow_run
from resources.model_registry import ModelRegistryResource
from resources.telegram import TelegramResource
from sensors.alerts import alert_sensor, delivery_sensor
from sensors.archive import archive_sensor
from sensors.drift import drift_sensor
from sensors.failures import run_failure_sensor
from sensors.freshness import freshness_sensor
from sensors.health import health_sensor
from sensors.keeper import keeper_sensor
from sensors.landing import landing_sensor
from sensors.promotion import promotion_sensor
from sensors.recovery import recovery_sensor
from sensors.scoring import scoring_sensor
from sensors.training import first_training_sensor
from txwatch.archive.manifest import archive_of
from txwatch.detection.drift_reports import DriftPages
from txwatch.logs import configure_logging
from txwatch.settings import Settings
from txwatch.sources.chosen import parts
from txwatch.store.capacity import Kept
from txwatch.store.history_start import HistoryStart


def default_resources(settings: Settings) -> dict[str, Any]:
    """The resources of a real system. Secrets are given as names of variables, so that no page of the UI shows them."""
    database = DatabaseResource(url=dg.EnvVar("DATABASE_URL"))
    model_registry = ModelRegistryResource(
        home=str(settings.home.resolve()),
        database_url=dg.EnvVar("DATABASE_URL"),
        tracking_uri=dg.EnvVar("MLFLOW_TRACKING_URI") if settings.mlflow_tracking_uri else None,
    )
    telegram = TelegramResource(
        token="" if settings.telegram_bot_token is None else dg.EnvVar("TELEGRAM_BOT_TOKEN"),
        chats=list(settings.telegram_chats),
        api_url=settings.telegram_api_url,
        webhook_private=settings.webhook_private,
    )
    return {
        "database": database,
        "ingestion": IngestionResource(
            database=database,
            model_registry=model_registry,
            telegram=telegram,
            sources=list(parts(settings.sources)),
            stream_url=settings.stream_url,
            bitcoin_rpc_url=dg.EnvVar("BITCOIN_RPC_URL") if settings.bitcoin_rpc_url else "",
            bitcoin_zmq_url=settings.bitcoin_zmq_url,
            mempool_space_url=settings.mempool_space_url,
            rest_url=settings.rest_url,
            rest_interval_seconds=settings.rest_interval_seconds,
            spool=str(settings.spool),
            spool_bytes=settings.spool_mb << 20,
            whale_btc=settings.whale_btc,
            whale_usd=settings.whale_usd,
        ),
        "feature_store": FeatureStoreResource(
            database_url=dg.EnvVar("DATABASE_URL"),
            redis_url=dg.EnvVar("REDIS_URL") if settings.redis_url else None,
            retention_days=settings.retention_days,
        ),
        "model_registry": model_registry,
        "telegram": telegram,
        "mlflow": mlflow_run,
    }


def closed(resource: Any) -> Any:
    """The resource with no run configuration: else whoever launches a run could send the bot's token elsewhere."""
    if isinstance(resource, dg.ConfigurableResource):
        resource = resource.get_resource_definition()
    if not isinstance(resource, dg.ResourceDefinition):
        return resource  # a plain object takes no configuration
    stated = resource.config_schema.default_value if resource.config_schema.default_provided else {}
    return dg.configured(resource, config_schema={})(lambda _: stated)


def build_defs(
    settings: Settings, resources: Mapping[str, Any] | None = None, history: HistoryStart | None = None
) -> dg.Definitions:
    """The definitions under these settings, and where the history begins, which else the database says.

    `resources` replaces some by name, for tests.
    """
    history = history or recorded_start(settings)
    start, windows = history.first_window, window_partitions(history.first_window)
    detectors = settings.whale_btc, settings.whale_usd
    archive = archive_of(settings)
    return dg.Definitions(
        assets=dg.with_source_code_references(
            [
                transactions_asset(windows),
                blocks,
                network_baseline_asset(windows),
                address_activity_asset(windows, settings.address_shards),
                shared_backfills(transaction_features_asset(windows), settings.backfill_windows),
                shared_backfills(transaction_scores_asset(windows, *detectors), settings.backfill_windows),
                alerts_asset(windows),
                anomaly_model_asset(settings.alerts_per_hour, settings.whale_btc, settings.material_btc, archive),
                champion_model_asset(settings.whale_btc),
                drift_report_asset(DriftPages(settings.report_place)),
                *(archive_assets(archive, history.earliest_window) if archive else []),
                *([backtest_asset(archive, history.earliest_window, *detectors)] if archive else []),
            ]
        ),
        asset_checks=[newest_in_time(key) for key in keys.WITH_WINDOWS],
        jobs=[
            ingest_shift_job,
            recovery_job,
            score_windows_job,
            raise_alerts_job,
            deliver_alerts_job,
            training_job,
            drift_job,
            maintenance_job(settings.retention_days, archive, settings.archive_days, settings.history_start),
            *([archive_job, backtest_job] if archive else []),
            restore_drill_job(settings.home.resolve()),
            *([sample_job(settings.samples_a_day)] if settings.samples_a_day else []),
        ],
        schedules=[
            daily_training,
            hourly_drift_report,
            daily_maintenance,
            *([daily_sample] if settings.samples_a_day else []),
        ],
        sensors=[
            *([keeper_sensor] if settings.keeper else []),
            landing_sensor(start),
            recovery_sensor,
            *([archive_sensor(history.earliest_window)] if archive else []),
            scoring_sensor(start),
            alert_sensor(start),
            delivery_sensor,
            first_training_sensor,
            promotion_sensor,
            drift_sensor,
            freshness_sensor(),
            run_failure_sensor,
            health_sensor(
                settings.home.resolve(), kept=Kept(settings.retention_days, archive.place if archive else None)
            ),
        ],
        resources={
            name: closed(resource) for name, resource in (default_resources(settings) | dict(resources or {})).items()
        },
        executor=dg.in_process_executor,
    )


@dg.definitions
def defs() -> dg.Definitions:
    """What Dagster loads. The settings are read at this call, not when this module is imported."""
    settings = Settings()
    configure_logging(settings, process="dagster", under="txwatch")
    return build_defs(settings)
