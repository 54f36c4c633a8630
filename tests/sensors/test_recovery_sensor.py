"""The chain is read when a block is announced and when a gap waits, once each, and again after a while."""

from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin

from resources.database import DatabaseResource
from sensors.recovery import reading_needed, recovery_sensor
from tests.conftest import Installation
from txwatch.clock import utc_now
from txwatch.store.database import connect
from txwatch.store.gaps import FeedGap, Gap, record_gaps

NOW = datetime(2024, 3, 14, 12, tzinfo=UTC)
ENDED = Gap(7, NOW - timedelta(minutes=5), NOW - timedelta(minutes=4))
OPEN = Gap(8, NOW - timedelta(minutes=1), None)


def test_nothing_is_asked_while_nothing_is_new() -> None:
    assert reading_needed([], []) is None
    assert reading_needed([], [OPEN]) is None, "a gap that lasts cannot be recovered"


def test_the_reason_is_said_in_words() -> None:
    asked = reading_needed(["a" * 64, "b" * 64], [ENDED, OPEN])
    assert asked is not None
    assert asked[0] == "2 new blocks, 1 gap to recover"


def test_a_new_block_and_a_new_gap_are_told_from_those_that_were_asked_for() -> None:
    def newest(unfetched: list[str], gaps: list[Gap]) -> str:
        asked = reading_needed(unfetched, gaps)
        assert asked is not None
        return asked[1]

    same = newest(["a" * 64], [])
    assert newest(["b" * 64, "a" * 64], []) == same
    assert newest(["a" * 64, "b" * 64], []) != same
    assert newest(["a" * 64], [ENDED]) != same


def test_while_a_reading_waits_for_its_turn_no_other_is_asked_for(
    installation: Installation, dagster_instance: dg.DagsterInstance
) -> None:
    def ask() -> dg.SensorResult | dg.SkipReason:
        context = dg.build_sensor_context(instance=dagster_instance)
        return recovery_sensor(context, database=DatabaseResource(url=installation.database_url))

    with connect(installation.database_url) as connection:
        record_gaps(connection, [FeedGap(utc_now() - timedelta(minutes=1), utc_now(), "test")])
    assert isinstance(ask(), dg.SensorResult)

    location = GrpcServerCodeLocationOrigin(host="127.0.0.1", port=1, location_name="txwatch")
    origin = RemoteJobOrigin(RemoteRepositoryOrigin(location, "__repository__"), "recovery")
    queued = dg.DagsterRunStatus.QUEUED
    run = dagster_instance.add_run(dg.DagsterRun("recovery", "0" * 32, status=queued, remote_job_origin=origin))
    assert isinstance(ask(), dg.SkipReason)

    dagster_instance.delete_run(run.run_id)
    assert isinstance(ask(), dg.SensorResult)
