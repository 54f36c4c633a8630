"""The keeper asks for shifts by the heartbeat of the lease, whatever the status of runs."""

import re
from datetime import timedelta

import dagster as dg
import msgspec

from blockchain_assets.jobs import ingest_shift_job
from resources.database import DatabaseResource
from sensors.keeper import ASK_AGAIN, STARTS_WITHIN, Asked, keeper_sensor
from tests.conftest import Installation
from txwatch.clock import utc_now
from txwatch.store.database import connect
from txwatch.store.lease import STALE_AFTER, take_lease


def ask(
    installation: Installation, instance: dg.DagsterInstance, cursor: str | None = None
) -> dg.SensorResult | dg.SkipReason:
    context = dg.build_sensor_context(instance=instance, cursor=cursor)
    return keeper_sensor(context, database=DatabaseResource(url=installation.database_url))


def test_a_shift_is_asked_for_only_while_nobody_follows_the_feed(
    installation: Installation, dagster_instance: dg.DagsterInstance
) -> None:
    first = ask(installation, dagster_instance)
    assert isinstance(first, dg.SensorResult)
    assert first.run_requests is not None
    assert first.run_requests[0].tags["txwatch/reason"] == "no worker has run yet"

    with connect(installation.database_url) as connection:
        take_lease(connection, "run 1", utc_now(), None)
        assert isinstance(ask(installation, dagster_instance), dg.SkipReason)

        take_lease(connection, "run 2", utc_now() - STALE_AFTER - timedelta(seconds=5), None)
        again = ask(installation, dagster_instance)
    assert isinstance(again, dg.SensorResult)
    assert again.run_requests is not None
    assert "run 2 was not heard for" in again.run_requests[0].tags["txwatch/reason"]
    assert again.run_requests[0].run_key != first.run_requests[0].run_key, "a used run key would never run again"


def test_one_shift_is_asked_for_until_it_has_had_time_to_take_the_lease(
    installation: Installation, dagster_instance: dg.DagsterInstance
) -> None:
    with connect(installation.database_url) as connection:
        take_lease(connection, "run 3", utc_now() - STALE_AFTER - timedelta(seconds=5), None)
    first = ask(installation, dagster_instance)
    assert isinstance(first, dg.SensorResult)
    again = ask(installation, dagster_instance, first.cursor)
    assert isinstance(again, dg.SkipReason)
    assert re.search(r"was asked for \d+ s ago: run 3 was not heard for", str(again.skip_message))

    asked = msgspec.json.decode(first.cursor or "", type=Asked)
    long_ago = Asked(asked.epoch, asked.at - ASK_AGAIN)
    assert isinstance(ask(installation, dagster_instance, msgspec.json.encode(long_ago).decode()), dg.SensorResult)
    ahead = Asked(asked.epoch, asked.at + timedelta(hours=1))
    assert isinstance(ask(installation, dagster_instance, msgspec.json.encode(ahead).decode()), dg.SensorResult)
    of_another = Asked(asked.epoch - 1, asked.at)
    assert isinstance(ask(installation, dagster_instance, msgspec.json.encode(of_another).decode()), dg.SensorResult)


def test_a_shift_that_is_slow_to_start_is_not_asked_for_twice_and_one_that_hangs_is(
    installation: Installation, dagster_instance: dg.DagsterInstance
) -> None:
    with connect(installation.database_url) as connection:
        epoch = take_lease(connection, "run 4", utc_now() - STALE_AFTER - timedelta(seconds=5), None)
    run = dagster_instance.create_run_for_job(ingest_shift_job, status=dg.DagsterRunStatus.STARTING)

    def asked(before: timedelta) -> dg.SensorResult | dg.SkipReason:
        cursor = msgspec.json.encode(Asked(epoch, utc_now() - before)).decode()
        return ask(installation, dagster_instance, cursor)

    assert isinstance(asked(2 * ASK_AGAIN), dg.SkipReason)
    assert isinstance(asked(STARTS_WITHIN + ASK_AGAIN), dg.SensorResult)
    dagster_instance.report_run_failed(run)
    assert isinstance(asked(2 * ASK_AGAIN), dg.SensorResult)


def test_a_successor_is_asked_for_before_a_shift_ends(
    installation: Installation, dagster_instance: dg.DagsterInstance
) -> None:
    with connect(installation.database_url) as connection:
        take_lease(connection, "run 3", utc_now(), utc_now() + timedelta(seconds=50))
    result = ask(installation, dagster_instance)
    assert isinstance(result, dg.SensorResult)
    assert result.run_requests is not None
    assert "the shift of run 3 ends" in result.run_requests[0].tags["txwatch/reason"]
