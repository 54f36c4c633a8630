"""The landing sensor reports each sealed window once, with its checks, and nothing before the first partition."""

from datetime import timedelta

import dagster as dg

from resources.database import DatabaseResource
from sensors.landing import Cursor, landing_sensor
from tests.builders import transaction
from tests.conftest import HISTORY_START, Installation
from txwatch.clock import WINDOW, utc_now, window_key, window_start
from txwatch.store.database import connect
from txwatch.store.gaps import FeedGap, record_gaps
from txwatch.store.lease import note_late_windows, read_late_windows, renew_lease, take_lease
from txwatch.store.transactions import land_transactions


def tick(installation: Installation, instance: dg.DagsterInstance, cursor: str | None) -> dg.SensorResult:
    context = dg.build_sensor_context(instance=instance, cursor=cursor)
    result = landing_sensor(HISTORY_START)(context, database=DatabaseResource(url=installation.database_url))
    assert isinstance(result, dg.SensorResult), result
    return result


def materialized(result: dg.SensorResult) -> dict[str, dg.AssetMaterialization]:
    return {str(e.partition): e for e in result.asset_events if isinstance(e, dg.AssetMaterialization)}


def test_windows_are_reported_as_the_watermark_passes_their_end(
    installation: Installation, dagster_instance: dg.DagsterInstance
) -> None:
    first, second, third = (HISTORY_START + i * WINDOW for i in range(3))
    early = transaction(txid="0" * 64, seen_at=HISTORY_START - timedelta(hours=1))
    with connect(installation.database_url) as connection, connection.transaction():
        epoch = take_lease(connection, "test", utc_now(), None)
        land_transactions(
            connection,
            [early]
            + [transaction(txid=f"{n:064x}", seen_at=first + timedelta(seconds=n), source="bulk") for n in range(1, 4)]
            + [transaction(txid=f"{9:064x}", seen_at=third, source="bulk")],
        )
        record_gaps(connection, [FeedGap(second, second + timedelta(seconds=30), "connection closed")])
        renew_lease(connection, epoch, utc_now(), third)

    result = tick(installation, dagster_instance, None)
    events = materialized(result)
    assert list(events) == [window_key(first), window_key(second)]
    assert events[window_key(first)].metadata["dagster/partition_row_count"].value == 3
    assert events[window_key(second)].metadata["gap_seconds"].value == 30
    checks = {
        (e.metadata["window"].value, e.check_name): e.passed
        for e in result.asset_events
        if isinstance(e, dg.AssetCheckEvaluation)
    }
    assert checks[window_key(first), "no_feed_gap"]
    assert not checks[window_key(second), "no_feed_gap"]

    with connect(installation.database_url) as connection:
        renew_lease(connection, epoch, utc_now(), third + WINDOW)
    assert list(materialized(tick(installation, dagster_instance, result.cursor))) == [window_key(third)]


def test_an_open_window_is_left_alone_and_named(
    installation: Installation, dagster_instance: dg.DagsterInstance
) -> None:
    context = dg.build_sensor_context(instance=dagster_instance, cursor=window_key(HISTORY_START + 2 * WINDOW))
    result = landing_sensor(HISTORY_START)(context, database=DatabaseResource(url=installation.database_url))
    assert isinstance(result, dg.SkipReason)
    assert "2024-03-14-00:15 is still open" in str(result.skip_message)


def test_windows_are_sealed_again_after_a_clock_that_was_ahead_was_set_back(
    installation: Installation, dagster_instance: dg.DagsterInstance
) -> None:
    now = utc_now()
    ahead = window_key(window_start(now) + timedelta(days=400))
    with connect(installation.database_url) as connection:
        renew_lease(connection, take_lease(connection, "set back", now, None), now, now)
    context = dg.build_sensor_context(instance=dagster_instance, cursor=f"{ahead}|7")
    result = landing_sensor(HISTORY_START)(context, database=DatabaseResource(url=installation.database_url))
    assert isinstance(result, dg.SkipReason)
    assert ahead[:4] not in str(result.skip_message), "the window that is open now"
    with connect(installation.database_url) as connection:
        note_late_windows(connection, [window_start(now) - WINDOW], "a spool")
        ids = frozenset(note.id for note in read_late_windows(connection, 9))
    repeated = tick(installation, dagster_instance, ahead)
    assert list(materialized(repeated)) == [window_key(window_start(now) - WINDOW)]
    after = Cursor.parse(repeated.cursor, HISTORY_START)
    assert (after.next_window <= utc_now(), after.reported) == (True, ids)
