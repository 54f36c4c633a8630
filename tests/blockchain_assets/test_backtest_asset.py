"""Models are tried on archived days by runs of their own, and trained on days drawn from them."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import dagster as dg
import pytest
from typer.testing import CliRunner

from blockchain_assets.definitions import build_defs
from tests.archive.filled import drop_all, write
from tests.archive.test_query import give_up
from tests.archive.test_writing import flip_a_bit
from tests.archive.traffic import DAY, archive_all, land
from tests.builders import transaction
from tests.conftest import HISTORY_START, Installation
from tests.materializing import metadata
from tests.modelling import START, features
from tests.registering import registered
from txwatch.archive.datasets import FEATURES
from txwatch.archive.manifest import Archive
from txwatch.cli import app
from txwatch.detection.registry import ModelRegistry
from txwatch.detection.training import train
from txwatch.settings import Settings
from txwatch.store.database import connect


@pytest.fixture(scope="module")
def template(prepared: str) -> str:
    """Dagster has its tables."""
    return prepared


@pytest.fixture(scope="module")
def history_start() -> datetime:
    """The first partition is the day that is archived."""
    return HISTORY_START


@pytest.fixture(scope="module")
def registry(installation: Installation) -> ModelRegistry:
    return ModelRegistry.of(installation.home, installation.database_url, None)


@pytest.fixture(autouse=True)
def archive(installation: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Archive:
    monkeypatch.setenv("TXWATCH_ARCHIVE", str(tmp_path / "archive"))
    with connect(installation.database_url) as connection:
        drop_all(connection)
    return Archive(tmp_path / "archive", installation.home / "archive-files")


def test_a_challenger_is_tried_on_an_archived_day_by_a_run_and_summed_up_by_the_command(
    installation: Installation, dagster_instance: dg.DagsterInstance, archive: Archive, registry: ModelRegistry
) -> None:
    versions = [
        registered(
            registry,
            train(
                features(regime, minutes=20), START, START + timedelta(minutes=20), alerts_per_hour=12, whale_btc=500,
                seed=7, min_rows=100, trees=20,
            ),
            features(regime, minutes=20),
        )
        for regime in ("2024-03", "2024-10")
    ]  # fmt: skip
    with connect(installation.database_url) as connection:
        land(connection, timedelta(0), timedelta(minutes=10))
        archive_all(connection, archive, DAY)
        give_up(connection, DAY)

    job = build_defs(Settings()).resolve_job_def("backtest")
    result = job.execute_in_process(
        instance=dagster_instance,
        partition_key=DAY.isoformat(),
        run_config={"ops": {"backtests": {"config": {"models": versions}}}},
    )
    assert result.success
    figures = metadata(result, "backtests")
    assert figures["transactions"] > 1_500

    asked = ["backtest", "--days", "2024-03-13..2024-03-14", "--models", ",".join(versions), "--json"]
    told = CliRunner().invoke(app, asked, catch_exceptions=False)
    assert told.exit_code == 3, "a day is missing"
    assert "transactions of 2024-03-13 are not archived: the day is left out." in told.stderr
    summed = json.loads(told.stdout)
    assert (summed["transactions"], summed["common"]) == (figures["transactions"], figures["common"])
    for version in versions:
        assert summed["models"][version]["alerts"] == figures[f"alerts_of_{version}"]
        assert all(score["txid"] in figures["only_of_one"] for score in summed["models"][version]["only"][:5])


@pytest.mark.parametrize("days", ["", "2024-03-14..2024-03-13", "yesterday"])
def test_days_that_are_none_are_refused(days: str) -> None:
    said = CliRunner().invoke(app, ["backtest", "--models", "1", "--days", days])
    assert said.exit_code != 0


def test_a_model_is_trained_on_a_day_drawn_from_archived_ones_and_its_card_names_what_is_not_in_it(
    installation: Installation,
    dagster_instance: dg.DagsterInstance,
    archive: Archive,
    registry: ModelRegistry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    random = Random(1)  # noqa: S311
    days = [DAY + timedelta(days=n) for n in range(3)]
    start = datetime(2024, 3, 14, tzinfo=UTC)
    moments = [start + timedelta(seconds=25 * n) for n in range(3 * 86_400 // 25)]
    with connect(installation.database_url) as connection:
        write(connection, [transaction(txid=f"{random.getrandbits(256):064x}", seen_at=at) for at in moments], random)
        archive_all(connection, archive, *days)
        for day in days:
            give_up(connection, day)
    manifest = archive.manifest(FEATURES, days[1])
    assert manifest is not None
    flip_a_bit(Path(str(archive.file(manifest, FEATURES))))
    monkeypatch.setattr("blockchain_assets.anomaly_model.utc_now", lambda: start + timedelta(days=3, hours=1))
    monkeypatch.setattr("blockchain_assets.anomaly_model.SEED", 5)
    job = build_defs(Settings()).resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(
        instance=dagster_instance,
        asset_selection=[dg.AssetKey("anomaly_model")],
        run_config={"ops": {"anomaly_model": {"config": {"days": 30}}}},
    )
    assert result.success
    told = metadata(result, "anomaly_model")
    damaged = f"features of {days[1]}: its file is damaged"
    assert told["left_out"] == damaged
    assert told["rows"] == 24 * 144
    assert told["transactions_per_hour"] == 144
    challenger = registry.challenger()
    assert challenger is not None
    assert challenger.card.left_out == [damaged]
    assert challenger.card.trained_from == start
