"""The health sensor and the run-failure sensor raise system alerts, and tell when a job succeeds again."""

import re
from datetime import datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from resources.database import DatabaseResource
from resources.telegram import TelegramResource
from sensors.failures import run_failure_sensor
from sensors.health import health_sensor
from tests.conftest import Installation
from tests.databases import empty_tables
from txwatch.alerts.conditions import Condition, State, condition_alerts
from txwatch.alerts.health import WINDOW_UNSCORED, failed_run
from txwatch.alerts.store import insert_alerts
from txwatch.clock import WINDOW, utc_now, window_key, window_start
from txwatch.queries.status import latest_health
from txwatch.store.database import connect
from txwatch.store.lease import renew_lease, take_lease
from txwatch.store.sightings import FollowedSource, note_sources
from txwatch.store.transactions import land_blocks
from txwatch.wire.messages import WireBlock

TELEGRAM = TelegramResource(token="1:a", chats=["1"])


@dg.op
def breaks_unless_mended(context: dg.OpExecutionContext) -> None:
    if not context.run.tags.get("mended"):
        raise ValueError("the cause")


@dg.job(executor_def=dg.in_process_executor)
def fragile() -> None:
    breaks_unless_mended()


def look(installation: Installation, instance: dg.DagsterInstance, after: timedelta = timedelta(0)) -> str:
    return look_at(installation, instance, utc_now() + after)


def look_at(installation: Installation, instance: dg.DagsterInstance, moment: datetime) -> str:
    result = health_sensor(Path("/"), lambda: moment)(
        dg.build_sensor_context(instance=instance),
        database=DatabaseResource(url=installation.database_url),
        telegram=TELEGRAM,
    )
    assert isinstance(result, dg.SkipReason)
    return str(result.skip_message)


def test_a_failed_run_is_told_and_so_is_its_recovery(
    installation: Installation, dagster_instance: dg.DagsterInstance
) -> None:
    failed = fragile.execute_in_process(instance=dagster_instance, raise_on_error=False)
    context = dg.build_run_status_sensor_context(
        sensor_name="run_failure_sensor",
        dagster_event=failed.get_run_failure_event(),
        dagster_instance=dagster_instance,
        dagster_run=failed.dagster_run,
    ).for_run_failure()
    resources = {"database": DatabaseResource(url=installation.database_url), "telegram": TELEGRAM}
    run_failure_sensor(context, **resources)
    run_failure_sensor(context, **resources)
    with connect(installation.database_url) as connection:
        rows = connection.execute(
            "SELECT alert_key, reasons->0->>'text', state FROM alerts JOIN alert_deliveries USING (alert_key)"
        ).fetchall()
    assert len(rows) == 1
    assert rows[0][0].startswith("system:run_failed:fragile:")
    assert "A run of fragile failed" in rows[0][1]
    assert rows[0][2] == "pending"

    assert look(installation, dagster_instance) == "Nothing changed."
    fragile.execute_in_process(instance=dagster_instance, tags={"mended": "yes"})
    assert look(installation, dagster_instance) == f"Raised {rows[0][0]}:recovered."


@pytest.mark.parametrize("fails_again", [False, True], ids=["failed after a success", "failed, succeeded, failed"])
def test_only_a_success_after_the_last_failure_ends_its_alert(
    installation: Installation, dagster_instance: dg.DagsterInstance, fails_again: bool
) -> None:
    began = utc_now()
    for mended in (False, True, False) if fails_again else (True, False):
        tags = {"mended": "yes"} if mended else {}
        fragile.execute_in_process(instance=dagster_instance, tags=tags, raise_on_error=False)
    with connect(installation.database_url) as connection, connection.transaction():
        empty_tables(connection, "alerts")
        failed = failed_run("fragile", "0" * 8, "x", began)
        insert_alerts(connection, condition_alerts([failed], {}, began), ["1"])
    assert "run_failed" not in look(installation, dagster_instance)
    fragile.execute_in_process(instance=dagster_instance, tags={"mended": "yes"})
    assert re.search(r"system:run_failed:fragile:\w+:recovered", look(installation, dagster_instance))


def test_what_is_no_longer_there_to_be_checked_is_over(
    installation: Installation, dagster_instance: dg.DagsterInstance
) -> None:
    with connect(installation.database_url) as connection, connection.transaction():
        empty_tables(connection, "alerts")
        failed = [failed_run(job, "0" * 8, "x", utc_now() + timedelta(seconds=1)) for job in ("fragile", "former_job")]
        archive = Condition("archive", State.wrong, "Archive: a day is missing")
        unscored = Condition("windows_failed", State.wrong, "1 sealed window has no scores")
        insert_alerts(connection, condition_alerts([*failed, archive, unscored], {}, utc_now()), ["1"])
    there = dg.Definitions(jobs=[fragile]).get_repository_def()
    result = health_sensor(Path("/"), utc_now)(
        dg.build_sensor_context(instance=dagster_instance, repository_def=there),
        database=DatabaseResource(url=installation.database_url),
        telegram=TELEGRAM,
    )
    assert isinstance(result, dg.SkipReason)
    over = re.findall(r"system:([^ ]+):\w+:recovered", str(result.skip_message))
    assert sorted(over) == ["archive", "run_failed:former_job"], "the others may fail on"
    with connect(installation.database_url) as connection:
        assert {"archive", "run_failed:former_job"} <= {
            check.name for check in latest_health(connection) if check.state == "well"
        }, "no page shows it as wrong"
        empty_tables(connection, "alerts")


def test_drift_that_persists_is_told_and_a_report_without_it_ends_it(
    installation: Installation, dagster_instance: dg.DagsterInstance
) -> None:
    def report(drifted: bool, share: float) -> None:
        metadata = {"drifted": drifted, "drift_share": share}
        dagster_instance.report_runless_asset_event(dg.AssetMaterialization("drift_report", metadata=metadata))

    dagster_instance.report_runless_asset_event(dg.AssetMaterialization("champion_model"))
    for share in (0.2, 0.3):
        report(True, share)
        assert "drift" not in look(installation, dagster_instance), "it may be an unusual hour"
    report(True, 0.4)
    assert "system:drift:" in look(installation, dagster_instance)
    with connect(installation.database_url) as connection:
        (text,) = connection.execute(
            "SELECT reasons->0->>'text' FROM alerts WHERE alert_key LIKE 'system:drift:%'"
        ).fetchone() or ("",)
    assert "3 reports in a row" in text
    assert "in 40% of the features" in text
    report(False, 0.0)
    assert re.search(r"system:drift:\w+:recovered", look(installation, dagster_instance))


def test_the_health_of_the_feed_and_of_windows_is_told(
    installation: Installation, dagster_instance: dg.DagsterInstance
) -> None:
    with connect(installation.database_url) as connection:
        take_lease(connection, "run 1", utc_now() - WINDOW, None)
    assert "system:lease_stale:" in look(installation, dagster_instance)
    with connect(installation.database_url) as connection:
        take_lease(connection, "run 2", utc_now(), None)
    assert ":recovered" in look(installation, dagster_instance)

    key = window_key(window_start(utc_now()) - 10 * WINDOW)
    dagster_instance.report_runless_asset_event(dg.AssetMaterialization("transactions", partition=key))
    assert look(installation, dagster_instance) == "Nothing changed.", "without a champion nothing can be scored"
    dagster_instance.report_runless_asset_event(dg.AssetMaterialization("champion_model"))
    assert look(installation, dagster_instance) == "Nothing changed.", "what waited for a champion takes its time"
    later = WINDOW_UNSCORED + WINDOW
    assert "system:windows_failed:" in look(installation, dagster_instance, later)
    dagster_instance.report_runless_asset_event(dg.AssetMaterialization("transaction_scores", partition=key))
    assert re.search(r"system:windows_failed:\w+:recovered", look(installation, dagster_instance, later))


def test_the_network_is_told_and_the_end_is_written_into_the_alert(
    installation: Installation, dagster_instance: dg.DagsterInstance
) -> None:
    now = utc_now()
    early, late = now - timedelta(minutes=90), now - timedelta(minutes=70)
    with connect(installation.database_url) as connection:
        renew_lease(connection, take_lease(connection, "run 3", now, None), now, now)
        note_sources(connection, [FollowedSource("blockchain.info", early, now, now, True, "connected", 1.0, 83)])
        land_blocks(connection, [WireBlock(hash="ab" * 32, height=840_000, time=1, n_tx=1)], late)
    assert re.search(r"Raised (.*, )?network:no_block:\w+", look_at(installation, dagster_instance, now))
    with connect(installation.database_url) as connection:
        land_blocks(connection, [WireBlock(hash="cd" * 32, height=840_001, time=2, n_tx=1)], now)
    assert re.search(r"network:no_block:\w+ is over\.", look_at(installation, dagster_instance, now))
    with connect(installation.database_url) as connection:
        [(text,)] = connection.execute("SELECT text FROM alert_updates WHERE alert_key LIKE 'network:%'").fetchall()
    assert text == "✅ over after 70 min: block 840,001 came, 70 min after the one before"
