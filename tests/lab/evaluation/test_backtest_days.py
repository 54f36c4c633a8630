"""A backtest of archived days has the scores of the window lane, keeps each day, and names what it could not read."""

import os
import signal
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import msgspec
import pytest

from tests.archive.filled import drop_all
from tests.archive.test_query import give_up
from tests.archive.test_writing import flip_a_bit
from tests.archive.traffic import BEFORE, DAY, archive_all, land, score
from tests.modelling import model
from txwatch.archive.datasets import FEATURES, TRANSACTIONS
from txwatch.archive.manifest import Archive, ArchiveError
from txwatch.detection.model import Model
from txwatch.errors import UserError
from txwatch.lab.evaluation.backtest_days import DayOutcome, day_detectors, day_outcomes, together
from txwatch.lab.evaluation.backtest_processes import DayBacktest, try_days
from txwatch.store.database import Connection, connect

TRIED = model(minutes=20, trees=20, version="7")
FOLLOWING = Model("7", TRIED.pipeline, msgspec.structs.replace(TRIED.card, alerts_per_hour=400.0))
"""Its budget is so large that the threshold moves with each window's recent scores."""
OTHER = model("2024-10", minutes=20, trees=20, version="8")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    folder = tmp_path_factory.mktemp("backtest")
    return Archive(folder / "archive", folder / "work")


@pytest.fixture(scope="module")
def connection(database_url: str, archive: Archive) -> Iterator[Connection]:
    """Two days, scored by the window lane, archived, and given up."""
    with connect(database_url) as connection:
        drop_all(connection)
        score(connection, land(connection, timedelta(minutes=80), timedelta(minutes=40), rate=1.5), FOLLOWING)
        archive_all(connection, archive, BEFORE, DAY)
        connection.execute("CREATE TEMP TABLE lane AS TABLE transaction_scores")
        give_up(connection, BEFORE)
        give_up(connection, DAY)
        yield connection


def test_scores_and_thresholds_are_those_of_the_window_lane(connection: Connection, archive: Archive) -> None:
    (outcome,) = day_outcomes(connection, archive, DAY, [FOLLOWING], day_detectors(connection, 500, None))
    lane = connection.execute(
        "SELECT txid, score, threshold FROM lane WHERE is_anomaly AND seen_at >= '2024-03-14Z' ORDER BY seen_at, txid"
    ).fetchall()
    assert len(lane) > 20
    assert len({threshold for _, _, threshold in lane}) > 4, "it follows the hours before, across midnight too"
    assert [(one.txid, one.score, one.threshold) for one in outcome.unusual] == lane
    [(transactions,)] = connection.execute("SELECT count(*) FROM lane WHERE seen_at >= '2024-03-14Z'").fetchall()
    assert outcome.transactions == transactions


def test_a_day_is_kept_until_its_files_or_the_model_change(
    connection: Connection, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    detectors = day_detectors(connection, 500, None)
    first = day_outcomes(connection, archive, DAY, [TRIED, OTHER], detectors)
    with monkeypatch.context() as patched:
        patched.setattr("txwatch.lab.evaluation.backtest_days.archived_windows", lambda *_: pytest.fail("it is kept"))
        assert day_outcomes(connection, archive, DAY, [OTHER, TRIED], detectors) == first[::-1]
    kept = Path(str(archive.place)) / "backtests" / "8" / "2024-03" / "2024-03-14.json"
    kept.write_bytes(kept.read_bytes()[:100])
    assert day_outcomes(connection, archive, DAY, [OTHER], detectors) == first[1:]
    changed = Model("8", OTHER.pipeline, msgspec.structs.replace(OTHER.card, alerts_per_hour=1.0))
    (fewer,) = day_outcomes(connection, archive, DAY, [changed], detectors)
    assert len(fewer.unusual) < len(first[1].unusual)


def test_days_are_summed_up_to_the_alerts_of_each_version(connection: Connection, archive: Archive) -> None:
    detectors = day_detectors(connection, 500, None)
    days = [day_outcomes(connection, archive, day, [TRIED, OTHER], detectors) for day in (DAY, BEFORE)]
    result = together(days)
    assert set(result.alerts) == {"7", "8"}
    assert result.hours == 48
    assert result.transactions == sum(of_day[0].transactions for of_day in days)
    unusual = {score.txid for of_day in days for score in of_day[0].unusual}
    assert set(result.alerts["7"]) < unusual, "what is alike is one alert"
    moments = [score.seen_at for score in result.alerts["7"].values()]
    assert moments == sorted(moments)
    assert result.only("8")
    assert result.common() + len(result.only("7")) == len(result.alerts["7"])


def test_a_day_that_is_not_archived_or_damaged_is_an_error_that_names_it(
    connection: Connection, archive: Archive
) -> None:
    detectors = day_detectors(connection, 500, None)
    with pytest.raises(ArchiveError, match="transactions of 2024-03-15 are not archived"):
        day_outcomes(connection, archive, DAY + timedelta(days=1), [TRIED], detectors)
    manifest = archive.manifest(FEATURES, DAY)
    assert manifest is not None
    file = Path(str(archive.file(manifest, FEATURES)))
    sound = file.read_bytes()
    flip_a_bit(file)
    retrained = Model("9", TRIED.pipeline, TRIED.card)
    try:
        with pytest.raises(ArchiveError, match="features of 2024-03-14: its file is damaged"):
            day_outcomes(connection, archive, DAY, [retrained], detectors)
    finally:
        file.write_bytes(sound)


def test_without_the_day_before_thresholds_are_those_of_the_training(connection: Connection, archive: Archive) -> None:
    manifest = archive.manifest(TRANSACTIONS, BEFORE)
    assert manifest is not None
    file = Path(str(archive.file(manifest, TRANSACTIONS)))
    sound = file.read_bytes()
    flip_a_bit(file)
    retrained = Model("10", FOLLOWING.pipeline, FOLLOWING.card)
    try:
        (outcome,) = day_outcomes(connection, archive, DAY, [retrained], day_detectors(connection, 500, None))
    finally:
        file.write_bytes(sound)
    assert outcome.transactions > 3_000


def test_features_of_another_contract_are_computed_again(
    connection: Connection, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    (kept,) = day_outcomes(connection, archive, DAY, [FOLLOWING], day_detectors(connection, 500, None))
    monkeypatch.setattr("txwatch.archive.reading.contract_fingerprint", lambda: "another")
    monkeypatch.setattr(
        "txwatch.lab.evaluation.backtest_days.stored_windows", lambda *_: pytest.fail("they are of another contract")
    )
    retrained = Model("11", FOLLOWING.pipeline, FOLLOWING.card)
    (outcome,) = day_outcomes(connection, archive, DAY, [retrained], day_detectors(connection, 500, None))
    assert outcome.transactions == kept.transactions
    assert outcome.unusual == kept.unusual


def test_days_are_tried_in_processes_and_told_in_order(
    database_url: str, connection: Connection, archive: Archive
) -> None:
    after = DAY + timedelta(days=1)
    tried = DayBacktest(database_url, archive, [TRIED, OTHER], whale_btc=500)
    found = dict(try_days(tried, [DAY, after, BEFORE], processes=2))
    detectors = day_detectors(connection, 500, None)
    assert list(found) == [DAY, after, BEFORE]
    assert found[DAY] == day_outcomes(connection, archive, DAY, [TRIED, OTHER], detectors)
    assert found[BEFORE] == day_outcomes(connection, archive, BEFORE, [TRIED, OTHER], detectors)
    assert found[after] == f"transactions of {after} are not archived"


class EndedDay(DayBacktest):
    """As if the system had no memory left for it."""

    def outcomes(self, day: date) -> list[DayOutcome] | str:
        os.kill(os.getpid(), signal.SIGKILL)
        return super().outcomes(day)


def test_a_process_that_is_ended_from_outside_is_an_error_that_says_what_to_do(
    database_url: str, archive: Archive
) -> None:
    tried = EndedDay(database_url, archive, [TRIED], whale_btc=500)
    with pytest.raises(UserError, match="fewer --processes need less"):
        list(try_days(tried, [DAY], processes=1))
