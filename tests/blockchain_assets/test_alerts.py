"""The `alerts` asset raises what stored scores call for, delivers it, and does neither twice."""

from collections.abc import Iterator
from datetime import datetime, timedelta

import dagster as dg
import pytest

from blockchain_assets.alerts import alerts_asset
from blockchain_assets.jobs import deliver_alerts_job
from blockchain_assets.partitions import window_partitions
from resources.database import DatabaseResource
from resources.telegram import TelegramResource
from sensors.alerts import alert_sensor, delivery_sensor
from tests.builders import transaction
from tests.conftest import Installation
from tests.databases import empty_tables
from txwatch.alerts.deliveries import read_delivery_levels
from txwatch.clock import WINDOW, utc_now, window_key, window_start
from txwatch.detection.reasons import Reason
from txwatch.detection.score import Score
from txwatch.detection.score_windows import insert_scores
from txwatch.lab.simulator.telegram import Fault, LocalTelegram
from txwatch.lab.simulator.telegram_server import TelegramServer
from txwatch.store.database import connect
from txwatch.store.transactions import land_transactions
from txwatch.wire.transaction import Origin

WINDOWS = window_partitions(window_start(utc_now()) - timedelta(days=1))
FEE = Reason("fee_accident", "fee of 7.00 BTC, 99% of what was spent, at 3,000,000 sat/vB")
COINJOIN = Reason("coinjoin", "5 equal outputs")
WATCHED = Reason("watch_listed", "pays 1abc")


@pytest.fixture
def window() -> datetime:
    """The last that is whole, so that what is seen in it is not late."""
    return window_start(utc_now()) - WINDOW


@pytest.fixture
def local(installation: Installation) -> LocalTelegram:
    with connect(installation.database_url) as connection:
        empty_tables(
            connection, "transactions, transaction_scores, alerts, alert_deliveries, channels, channel_requests"
        )
    return LocalTelegram()


@pytest.fixture
def telegram(local: LocalTelegram) -> Iterator[TelegramResource]:
    with TelegramServer(local) as server:
        yield TelegramResource(token="1:a", chats=["1"], api_url=server.url)


def land_scored(installation: Installation, window: datetime, n: int, reason: Reason, source: Origin = "feed") -> None:
    seen_at = window + timedelta(seconds=n)
    tx = transaction(txid=f"{n:064x}", seen_at=seen_at, source=source)
    score = Score(tx.txid, seen_at, 0.3, 0.6, True, [reason])
    with connect(installation.database_url) as connection, connection.transaction():
        land_transactions(connection, [tx])
        insert_scores(connection, [score], "4", 1, lane="window")


def materialize(
    installation: Installation, window: datetime, telegram: TelegramResource, instance: dg.DagsterInstance
) -> dict[str, int]:
    result = dg.materialize(
        [alerts_asset(WINDOWS)],
        partition_key=window_key(window),
        instance=instance,
        resources={"database": DatabaseResource(url=installation.database_url), "telegram": telegram},
    )
    (event,) = result.asset_materializations_for_node("alerts")
    return {name: int(str(value.value)) for name, value in event.metadata.items() if isinstance(value.value, int)}


def test_a_window_is_alerted_once(
    installation: Installation,
    dagster_instance: dg.DagsterInstance,
    telegram: TelegramResource,
    local: LocalTelegram,
    window: datetime,
) -> None:
    land_scored(installation, window, 1, FEE)
    land_scored(installation, window, 2, COINJOIN)
    first = materialize(installation, window, telegram, dagster_instance)
    assert (first["raised_by_this_run"], first["sent"], first["pending"], first["late"]) == (1, 1, 0, 0)
    again = materialize(installation, window, telegram, dagster_instance)
    assert (again["raised_by_this_run"], again["sent"], again["alerts"]) == (0, 1, 1)
    (message,) = local.received
    assert message.text.startswith("🔥 Fee accident · fee 1,220 sat\n• fee of 7.00 BTC")
    assert "model 4" in message.text
    with connect(installation.database_url) as connection:
        levels = read_delivery_levels(connection, utc_now() - WINDOW)
    assert (levels.sent, levels.pending) == (1, 0)
    assert levels.latency_ms_p50 is not None


def test_a_kind_that_another_lane_found_is_written_into_the_message(
    installation: Installation,
    dagster_instance: dg.DagsterInstance,
    telegram: TelegramResource,
    local: LocalTelegram,
    window: datetime,
) -> None:
    land_scored(installation, window, 1, FEE)
    materialize(installation, window, telegram, dagster_instance)
    with connect(installation.database_url) as connection:
        (seen_at,) = connection.execute("SELECT seen_at FROM transactions WHERE txid = %s", [f"{1:064x}"]).fetchone()
    again = Score(f"{1:064x}", seen_at, 0.3, 0.6, True, [FEE, WATCHED])
    with connect(installation.database_url) as connection, connection.transaction():
        insert_scores(connection, [again], "4", 2, lane="window")
    for _ in range(2):
        counts = materialize(installation, window, telegram, dagster_instance)
        assert (counts["raised_by_this_run"], counts["alerts"]) == (0, 1)
    (message,) = local.received
    assert message.text.count("👁 also watch-listed address: pays 1abc") == 1
    assert message.text.count("Fee accident") == 1


def test_without_a_token_alerts_are_raised_and_kept(
    installation: Installation, dagster_instance: dg.DagsterInstance, local: LocalTelegram, window: datetime
) -> None:
    land_scored(installation, window, 1, FEE)
    counts = materialize(installation, window, TelegramResource(), dagster_instance)
    assert (counts["raised_by_this_run"], counts["alerts"], counts["pending"]) == (1, 1, 0)
    assert local.received == []
    skipped = delivery_sensor(
        dg.build_sensor_context(instance=dagster_instance),
        database=DatabaseResource(url=installation.database_url),
        telegram=TelegramResource(),
    )
    assert isinstance(skipped, dg.SkipReason)


def test_what_waits_is_delivered_by_a_run_that_the_sensor_asks_for(
    installation: Installation,
    dagster_instance: dg.DagsterInstance,
    telegram: TelegramResource,
    local: LocalTelegram,
    window: datetime,
) -> None:
    database = DatabaseResource(url=installation.database_url)

    def ask() -> dg.SensorResult | dg.SkipReason:
        result = delivery_sensor(
            dg.build_sensor_context(instance=dagster_instance), database=database, telegram=telegram
        )
        assert isinstance(result, dg.SensorResult | dg.SkipReason)
        return result

    land_scored(installation, window, 1, FEE)
    local.faults.append(Fault.too_many)
    local._retry_after_seconds = 3_600
    assert materialize(installation, window, telegram, dagster_instance)["pending"] == 1
    assert isinstance(ask(), dg.SkipReason), "Telegram asked to wait"
    with connect(installation.database_url) as connection:
        connection.execute("UPDATE channels SET retry_at = NULL")
        connection.execute("UPDATE alerts SET created_at = now() + interval '1 hour'")
        assert isinstance(ask(), dg.SkipReason), "whoever raised it may still deliver it"
        connection.execute("UPDATE alerts SET created_at = now() - interval '1 minute'")
    asked = ask()
    assert isinstance(asked, dg.SensorResult)
    assert asked.run_requests is not None
    assert asked.run_requests[0].tags["txwatch/reason"] == "1 alerts wait for channel 1"

    result = deliver_alerts_job.execute_in_process(
        instance=dagster_instance, resources={"database": database, "telegram": telegram}
    )
    assert result.success
    assert len(local.received) == 1
    assert isinstance(ask(), dg.SkipReason)


def test_fresh_scores_are_asked_for_once(dagster_instance: dg.DagsterInstance) -> None:
    start = window_start(utc_now()) - 10 * WINDOW
    for n in (1, 0, 5):
        key = window_key(start + n * WINDOW)
        dagster_instance.report_runless_asset_event(dg.AssetMaterialization("transaction_scores", partition=key))
    sensor = alert_sensor(start)
    before = window_key(start - WINDOW)  # from when the history began earlier
    dagster_instance.report_runless_asset_event(dg.AssetMaterialization("transaction_scores", partition=before))
    result = sensor(dg.build_sensor_context(instance=dagster_instance))
    assert isinstance(result, dg.SensorResult)
    spans = [
        (r.tags["dagster/asset_partition_range_start"], r.tags["dagster/asset_partition_range_end"])
        for r in result.run_requests or []
    ]
    assert spans == [(window_key(start), window_key(start + WINDOW)), (window_key(start + 5 * WINDOW),) * 2]
    again = sensor(dg.build_sensor_context(instance=dagster_instance, cursor=result.cursor))
    assert isinstance(again, dg.SkipReason)


@pytest.mark.parametrize("fails", [False, True])
def test_scores_whose_run_raises_the_alerts_are_asked_for_only_if_it_fails(
    dagster_instance: dg.DagsterInstance, fails: bool
) -> None:
    start = window_start(utc_now()) - 3 * WINDOW
    windows, sensor, answers = window_partitions(start), alert_sensor(start), []
    newest = dagster_instance.fetch_materializations(dg.AssetKey("transaction_scores"), limit=1).records
    cursor = str(newest[0].storage_id if newest else 0)

    def ask() -> dg.SensorResult | dg.SkipReason:
        context = dg.build_sensor_context(instance=dagster_instance, cursor=cursor)
        answer = sensor(context)
        assert isinstance(answer, dg.SensorResult | dg.SkipReason)
        return answer

    @dg.asset(partitions_def=windows)
    def transaction_scores() -> dg.MaterializeResult:
        return dg.MaterializeResult()

    @dg.asset(partitions_def=windows, deps=[transaction_scores])
    def alerts() -> dg.MaterializeResult:
        answers.append(ask())
        if fails:
            raise ValueError("the database is away")
        return dg.MaterializeResult()

    job = dg.Definitions(assets=[transaction_scores, alerts]).resolve_implicit_global_asset_job_def()
    job.execute_in_process(
        instance=dagster_instance,
        partition_key=window_key(start),
        asset_selection=[transaction_scores.key, alerts.key],
        raise_on_error=False,
    )
    (meanwhile,) = answers
    assert isinstance(meanwhile, dg.SkipReason), "the run is still to raise them"
    answer = ask()
    assert isinstance(answer, dg.SensorResult if fails else dg.SkipReason)
