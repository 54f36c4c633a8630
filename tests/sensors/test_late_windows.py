"""A window that changes after it was sealed is reported again, and none is forgotten."""

from datetime import datetime, timedelta

import dagster as dg

from resources.database import DatabaseResource
from sensors.landing import Cursor, landing_sensor
from tests.builders import transaction
from tests.conftest import HISTORY_START, Installation
from txwatch.clock import WINDOW, utc_now, window_key
from txwatch.ingest.batch import Batch
from txwatch.ingest.lander import commit
from txwatch.store.database import connect
from txwatch.store.lease import read_late_windows, renew_lease, take_lease

FIRST, SECOND, THIRD = (HISTORY_START + i * WINDOW for i in range(3))


def tick(installation: Installation, instance: dg.DagsterInstance, cursor: str | None) -> tuple[list[str], str]:
    """The windows that a tick reports, which the instance takes as it does in the daemon, and the tick's cursor."""
    context = dg.build_sensor_context(instance=instance, cursor=cursor)
    result = landing_sensor(HISTORY_START)(context, database=DatabaseResource(url=installation.database_url))
    assert isinstance(result, dg.SensorResult), result
    for event in result.asset_events:
        instance.report_runless_asset_event(event)
    events = [e for e in result.asset_events if isinstance(e, dg.AssetMaterialization)]
    return [str(e.partition) for e in events], str(result.cursor)


def late(n: int, seen_at: datetime) -> Batch:
    return Batch(seen_at, seen_at + timedelta(seconds=1), [transaction(txid=f"{n:064x}", seen_at=seen_at)], received=1)


def test_what_lands_in_a_sealed_window_has_it_reported_again(
    installation: Installation, dagster_instance: dg.DagsterInstance
) -> None:
    with connect(installation.database_url) as connection:
        epoch = take_lease(connection, "test", utc_now(), None)
        renew_lease(connection, epoch, utc_now(), THIRD)
        reported, cursor = tick(installation, dagster_instance, None)
        assert reported == [window_key(FIRST), window_key(SECOND)]

        commit(connection, late(1, FIRST), epoch=epoch, now=utc_now())
        commit(connection, late(2, FIRST), epoch=None, now=utc_now())
        assert len(read_late_windows(connection, 10)) == 2

        reported, after = tick(installation, dagster_instance, cursor)
        assert reported == [window_key(FIRST)]
        assert tick(installation, dagster_instance, cursor) == (reported, after), "a tick that died is done again"
        context = dg.build_sensor_context(instance=dagster_instance, cursor=after)
        last = landing_sensor(HISTORY_START)(context, database=DatabaseResource(url=installation.database_url))
        assert isinstance(last, dg.SkipReason)
        assert read_late_windows(connection, 10) == []


def test_a_cursor_survives_its_text() -> None:
    for cursor in (Cursor(SECOND), Cursor(THIRD, frozenset({3, 14}))):
        assert Cursor.parse(str(cursor), FIRST) == cursor
    assert Cursor.parse(None, FIRST) == Cursor(FIRST)
    assert Cursor.parse(window_key(FIRST), FIRST) == Cursor(SECOND), "as it was written before there were notes"
