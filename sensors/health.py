"""Raises alerts about the system itself and about the network, and says when each is over."""

from datetime import UTC, datetime
from pathlib import Path

import dagster as dg

from blockchain_assets import keys
from resources.database import DatabaseResource
from resources.telegram import TelegramResource
from sensors.drift import drift_of_champion
from sensors.events import materialized_windows, running_sensor
from txwatch.alerts import health
from txwatch.alerts.conditions import Condition, State, condition_alerts, condition_ends, no_longer_checked, read_raised
from txwatch.alerts.network import network_conditions, read_network
from txwatch.alerts.store import insert_alerts, insert_updates
from txwatch.clock import Clock
from txwatch.store.capacity import Kept
from txwatch.store.database import database_now


def health_sensor(home: Path, clock: Clock | None = None, kept: Kept | None = None) -> dg.SensorDefinition:
    """The sensor for an installation whose state is in `home`, and what its settings keep.

    `clock` defaults to the database's.
    """

    @running_sensor(
        name="health_sensor",
        minimum_interval_seconds=30,
        description="Alerts when the feed is silent or nobody follows it, when landing lags, windows stay without"
        " scores, drift persists, a chat refuses messages, a disk is nearly full or will be soon, or the archive lacks"
        " a day; when transactions come in a burst or a flood of one pattern, fee rates jump, or no block comes; and"
        " when each is over. Requests no runs.",
    )
    def sensor(
        context: dg.SensorEvaluationContext, database: DatabaseResource, telegram: TelegramResource
    ) -> dg.SkipReason:
        with database.connect() as connection:
            now = clock() if clock else database_now(connection)
            raised = read_raised(connection)
            failed = health.failed_jobs(raised)
            found = [
                *health.conditions(health.read_health(connection, home, now, telegram.chats, kept), now),
                *_windows(context.instance, now),
                drift_of_champion(context.instance),
                *(
                    health.succeeded_job(job)
                    for job, alert in failed.items()
                    if _succeeded_since(context.instance, job, alert.since)
                ),
            ]
            waited_for = {f"{health.RUN_FAILED}:{job}" for job in failed if _exists(context, job)}
            found += no_longer_checked(waited_for | {condition.name for condition in found}, raised)
            network = read_network(connection, raised, now)
            lasting = [*found, *(network_conditions(network, raised) if network else ())]
            ends = condition_ends(lasting, raised, now)
            with connection.transaction():
                health.record_health(connection, found, now)
                new = insert_alerts(connection, condition_alerts(lasting, raised, now), telegram.chats)
                insert_updates(connection, ends)
        told = [f"Raised {', '.join(new)}."] if new else []
        told += [f"{end.alert_key} is over." for end in ends]
        return dg.SkipReason(" ".join(told) or "Nothing changed.")

    return sensor


def _windows(instance: dg.DagsterInstance, now: datetime) -> list[Condition]:
    promoted = instance.get_latest_materialization_event(keys.CHAMPION_MODEL)
    # No window can be scored before there is a champion. With the first one, all windows that waited need some time.
    if promoted is None or now - datetime.fromtimestamp(promoted.timestamp, UTC) < health.WINDOW_UNSCORED:
        return [Condition("windows_failed", State.unknown)]
    sealed, scored = materialized_windows(instance, keys.TRANSACTIONS, keys.TRANSACTION_SCORES)
    return [health.windows_condition(health.unscored_windows(sealed, scored, now), now)]


def _exists(context: dg.SensorEvaluationContext, job: str) -> bool:
    """Whether the code location still has a job; none is known to be gone where the location is not known."""
    repository = context.repository_def
    return repository is None or repository.has_job(job)


def _succeeded_since(instance: dg.DagsterInstance, job: str, since: datetime) -> bool:
    """Whether the run of the job that ended last succeeded. `since` has whole seconds: a failure may be after it."""
    ended = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE]
    filters = dg.RunsFilter(job_name=job, statuses=ended, updated_after=since)
    newest = instance.get_run_records(filters, limit=1, order_by="update_timestamp")
    return any(record.dagster_run.status is dg.DagsterRunStatus.SUCCESS for record in newest)
