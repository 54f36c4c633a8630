"""What a sensor asked for is asked for again after a while, and not later because a clock was set back meanwhile."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from uuid import uuid4

import dagster as dg
import pytest

from resources.database import DatabaseResource
from resources.model_registry import ModelRegistryResource
from resources.telegram import TelegramResource
from sensors.alerts import DELIVER_AGAIN, delivery_sensor
from sensors.recovery import ASK_AGAIN, NEWEST, recovery_sensor
from sensors.training import RETRY_AFTER, first_training_sensor
from tests.conftest import Installation
from txwatch.alerts.alert import Alert
from txwatch.alerts.store import insert_alerts
from txwatch.clock import utc_now
from txwatch.detection.kinds import Severity
from txwatch.detection.reasons import Reason
from txwatch.store.database import connect
from txwatch.store.gaps import FeedGap, record_gaps

CHAT = "1"
Tick = Callable[[], dg.SensorResult | dg.SkipReason]


@pytest.fixture
def ticks(
    installation: Installation, dagster_instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Tick]:
    """The sensors by their jobs; each has something to ask for."""
    monkeypatch.setattr("sensors.training.MIN_ROWS", 0)
    monkeypatch.setattr("sensors.training.was_materialized", lambda *_: True)
    url = installation.database_url
    ago, reasons = utc_now() - timedelta(minutes=5), [Reason("whale", "600.00 BTC likely moved", "moved_sat", 6e10)]
    with connect(url) as connection:
        record_gaps(connection, [FeedGap(ago, ago + timedelta(minutes=1), "test")])
        waiting = Alert("a" * 64, ["whale"], Severity.high, reasons, late=False, seen_at=ago, created_at=ago)
        insert_alerts(connection, [waiting], [CHAT])
    database = DatabaseResource(url=url)
    telegram = TelegramResource(token="1:x", chats=[CHAT])
    registry = ModelRegistryResource(home=str(installation.home), database_url=url)

    def context() -> dg.SensorEvaluationContext:
        return dg.build_sensor_context(instance=dagster_instance)

    return {
        "deliver_alerts": lambda: delivery_sensor(context(), database=database, telegram=telegram),
        "recovery": lambda: recovery_sensor(context(), database=database),
        "training": lambda: first_training_sensor(context(), database=database, model_registry=registry),
    }


@pytest.fixture
def no_runs(dagster_instance: dg.DagsterInstance) -> Iterator[None]:
    yield
    for run in dagster_instance.get_runs():
        dagster_instance.delete_run(run.run_id)


@pytest.mark.parametrize(
    ("job", "again"), [("deliver_alerts", DELIVER_AGAIN), ("recovery", ASK_AGAIN), ("training", RETRY_AFTER)]
)
@pytest.mark.usefixtures("no_runs")
def test_a_run_is_asked_for_again_after_a_while_also_if_a_clock_was_set_back(
    dagster_instance: dg.DagsterInstance, ticks: dict[str, Tick], job: str, again: timedelta
) -> None:
    asked = ticks[job]()
    assert isinstance(asked, dg.SensorResult)
    (request,) = asked.run_requests or []
    assert request.run_key is None, "one made of the time may be used already"
    for made, is_asked in ((-again, True), (timedelta(hours=1), True), (timedelta(0), False)):
        run = dg.DagsterRun(job, str(uuid4()), tags=dict(request.tags))
        run = run.with_status(dg.DagsterRunStatus.FAILURE)
        dagster_instance.run_storage.add_historical_run(run, utc_now() + made)
        assert isinstance(ticks[job](), dg.SensorResult) is is_asked, made


@pytest.mark.usefixtures("no_runs")
def test_a_reading_is_asked_for_at_once_if_there_is_something_new(
    dagster_instance: dg.DagsterInstance, ticks: dict[str, Tick]
) -> None:
    run = dg.DagsterRun("recovery", str(uuid4()), tags={NEWEST: "none-0"})
    dagster_instance.run_storage.add_historical_run(run.with_status(dg.DagsterRunStatus.SUCCESS), utc_now())
    assert isinstance(ticks["recovery"](), dg.SensorResult)
