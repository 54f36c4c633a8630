"""Asks for training when drift persists: one unusual hour is not a new regime."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg
import msgspec

from blockchain_assets import keys
from sensors.events import running_sensor
from txwatch.alerts.conditions import Condition
from txwatch.alerts.health import drift_condition
from txwatch.clock import utc_now
from txwatch.detection.drift import retraining_needed

REPORTS_IN_A_ROW = 3
COOLDOWN = timedelta(hours=6)


class Cursor(msgspec.Struct):
    """The storage id of the newest report that was read, and when training was last asked for (UTC)."""

    seen: int = 0
    asked_at: datetime | None = None


@running_sensor(
    job_name="training",
    minimum_interval_seconds=60,
    description=f"Asks for a new challenger when {REPORTS_IN_A_ROW} reports in a row found drift since the last"
    f" promotion, at most once in {COOLDOWN / timedelta(hours=1):g} hours.",
)
def drift_sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    cursor = msgspec.json.decode(context.cursor, type=Cursor) if context.cursor else Cursor()
    records = context.instance.fetch_materializations(keys.DRIFT_REPORT, limit=REPORTS_IN_A_ROW).records
    if not records or records[0].storage_id <= cursor.seen:
        return dg.SkipReason("There is no new drift report.")
    cursor.seen = records[0].storage_id
    drifted = [_drifted(record) for record in _since_promotion(context.instance, records)]
    now = utc_now()
    if not retraining_needed(drifted, cursor.asked_at, now, persists=REPORTS_IN_A_ROW, cooldown=COOLDOWN):
        context.update_cursor(msgspec.json.encode(cursor).decode())
        return dg.SkipReason(_why_not(drifted, cursor.asked_at))
    cursor.asked_at = now
    return dg.SensorResult(
        run_requests=[dg.RunRequest(run_key=f"drift-{cursor.seen}", tags={"txwatch/reason": "drift persists"})],
        cursor=msgspec.json.encode(cursor).decode(),
    )


def drift_of_champion(instance: dg.DagsterInstance) -> Condition:
    """Whether drift persists, as a condition of the system: unknown until there is a report on the champion."""
    records = _since_promotion(
        instance, instance.fetch_materializations(keys.DRIFT_REPORT, limit=REPORTS_IN_A_ROW).records
    )
    if not records:
        return drift_condition([], 0.0, utc_now(), REPORTS_IN_A_ROW)
    newest = records[0].asset_materialization
    share = newest.metadata["drift_share"].value if newest and "drift_share" in newest.metadata else 0.0
    first = datetime.fromtimestamp(records[-1].timestamp, UTC)
    return drift_condition([_drifted(record) for record in records], float(str(share)), first, REPORTS_IN_A_ROW)


def _since_promotion(instance: dg.DagsterInstance, reports: Sequence[dg.EventLogRecord]) -> list[dg.EventLogRecord]:
    promoted = instance.fetch_materializations(keys.CHAMPION_MODEL, limit=1).records
    since = promoted[0].timestamp if promoted else 0.0
    return [record for record in reports if record.timestamp > since]


def _drifted(record: dg.EventLogRecord) -> bool:
    event = record.asset_materialization
    return event is not None and bool(event.metadata["drifted"].value)


def _why_not(drifted: list[bool], asked_at: datetime | None) -> str:
    if len(drifted) >= REPORTS_IN_A_ROW and all(drifted) and asked_at is not None:
        return f"Drift persists; training was asked for at {asked_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC."
    in_a_row = next((i for i, found in enumerate(drifted) if not found), len(drifted))
    return f"{in_a_row} reports in a row found drift; {REPORTS_IN_A_ROW} ask for training."
