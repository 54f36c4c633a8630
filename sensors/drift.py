"""Asks for training when drift persists: one unusual hour is no new regime."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg
import msgspec

from blockchain_assets import keys
from txwatch.alerts.health import Condition, drift_condition
from txwatch.clock import utc_now
from txwatch.detection.drift import retraining_needed

PERSISTS = 3
COOLDOWN = timedelta(hours=6)


class Cursor(msgspec.Struct):
    """The newest report that was looked at, and when training was last asked for."""

    seen: int = 0
    asked_at: datetime | None = None


@dg.sensor(
    job_name="training",
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description=f"Asks for a new challenger when {PERSISTS} reports in a row found drift since the last promotion, at"
    f" most once in {COOLDOWN / timedelta(hours=1):g} hours.",
)
def drift_sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    cursor = msgspec.json.decode(context.cursor, type=Cursor) if context.cursor else Cursor()
    records = context.instance.fetch_materializations(keys.DRIFT_REPORT, limit=PERSISTS).records
    if not records or records[0].storage_id <= cursor.seen:
        return dg.SkipReason("There is no new drift report.")
    cursor.seen = records[0].storage_id
    drifted = [_drifted(record) for record in _since_promotion(context.instance, records)]
    now = utc_now()
    if not retraining_needed(drifted, cursor.asked_at, now, persists=PERSISTS, cooldown=COOLDOWN):
        context.update_cursor(msgspec.json.encode(cursor).decode())
        return dg.SkipReason(_why_not(drifted, cursor.asked_at))
    cursor.asked_at = now
    return dg.SensorResult(
        run_requests=[dg.RunRequest(run_key=f"drift-{cursor.seen}", tags={"txwatch/reason": "drift persists"})],
        cursor=msgspec.json.encode(cursor).decode(),
    )


def drift_of_champion(instance: dg.DagsterInstance) -> Condition:
    """Whether drift persists, as a condition of the system. Unknown until the champion has been compared."""
    records = _since_promotion(instance, instance.fetch_materializations(keys.DRIFT_REPORT, limit=PERSISTS).records)
    if not records:
        return drift_condition([], 0.0, utc_now(), PERSISTS)
    newest = records[0].asset_materialization
    share = newest.metadata["drift_share"].value if newest and "drift_share" in newest.metadata else 0.0
    first = datetime.fromtimestamp(records[-1].timestamp, UTC)
    return drift_condition([_drifted(record) for record in records], float(str(share)), first, PERSISTS)


def _since_promotion(instance: dg.DagsterInstance, reports: Sequence[dg.EventLogRecord]) -> list[dg.EventLogRecord]:
    """The reports about the champion of now."""
    promoted = instance.fetch_materializations(keys.CHAMPION_MODEL, limit=1).records
    since = promoted[0].timestamp if promoted else 0.0
    return [record for record in reports if record.timestamp > since]


def _drifted(record: dg.EventLogRecord) -> bool:
    event = record.asset_materialization
    return event is not None and bool(event.metadata["drifted"].value)


def _why_not(drifted: list[bool], asked_at: datetime | None) -> str:
    if len(drifted) >= PERSISTS and all(drifted) and asked_at is not None:
        return f"Drift persists; training was asked for at {asked_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC."
    in_a_row = next((i for i, found in enumerate(drifted) if not found), len(drifted))
    return f"{in_a_row} reports in a row found drift; {PERSISTS} ask for training."
