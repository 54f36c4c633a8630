"""Evaluates the automation conditions of `champion_model` (a new challenger) and `drift_report` (a new champion)."""

import dagster as dg

from blockchain_assets import keys

promotion_sensor = dg.AutomationConditionSensorDefinition(
    "promotion_sensor",
    target=dg.AssetSelection.assets(keys.CHAMPION_MODEL, keys.DRIFT_REPORT),
    minimum_interval_seconds=15,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Materializes champion_model whenever anomaly_model has a new version, and drift_report after it.",
)
