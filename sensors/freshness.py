"""Tells of each asset with windows whether its newest window is in time: when that changes, and every hour."""

import json
from datetime import datetime, timedelta

import dagster as dg

from blockchain_assets import keys
from blockchain_assets.windows import newest_window
from sensors.events import running_sensor
from txwatch.clock import Clock, utc_now

REPEATED_AFTER = timedelta(hours=1)


def freshness_sensor(clock: Clock = utc_now) -> dg.SensorDefinition:
    @running_sensor(
        name="freshness_sensor",
        minimum_interval_seconds=300,  # a window; each look reads all windows that there are
        description="Says of each asset with windows whether its newest one is in time, as the check"
        " newest_window_in_time. Requests no runs.",
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        return _look(context, clock())

    return sensor


def _look(context: dg.SensorEvaluationContext, now: datetime) -> dg.SensorResult:
    told = json.loads(context.cursor) if context.cursor else {}
    events = []
    for key in keys.WITH_WINDOWS:
        found = newest_window(context.instance, key, now)
        if found is None:
            continue
        outcome = [found.passed, found.severity.value]
        name = key.to_user_string()
        if name in told and told[name][1] == outcome and now < datetime.fromisoformat(told[name][0]) + REPEATED_AFTER:
            continue
        told[name] = now.isoformat(), outcome
        events.append(
            dg.AssetCheckEvaluation(
                asset_key=key,
                check_name=str(found.check_name),
                passed=found.passed,
                severity=found.severity,
                metadata=found.metadata,
            )
        )
    return dg.SensorResult(asset_events=events, cursor=json.dumps(told))
