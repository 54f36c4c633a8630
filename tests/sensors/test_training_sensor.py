"""The first training is asked for once there is enough to learn from, and asked for again until it has succeeded."""

from collections.abc import Sequence
from dataclasses import replace

import dagster as dg
import msgspec
import numpy as np
from psycopg import sql

from resources.database import DatabaseResource
from resources.model_registry import ModelRegistryResource
from sensors.training import first_training_sensor
from tests.conftest import Installation
from tests.registering import registered
from txwatch.clock import WINDOW, utc_now
from txwatch.detection.registry import ModelRegistry
from txwatch.detection.training import MIN_ROWS, train
from txwatch.features.contract import FEATURE_NAMES, contract_fingerprint
from txwatch.store.database import connect
from txwatch.store.retention import ensure_days


def tick(installation: Installation, instance: dg.DagsterInstance) -> dg.SensorResult | dg.SkipReason:
    context = dg.build_sensor_context(instance=instance)
    url = installation.database_url
    return first_training_sensor(
        context,
        database=DatabaseResource(url=url),
        model_registry=ModelRegistryResource(home=str(installation.home), database_url=url),
    )


def write_features(installation: Installation, rows: int) -> None:
    """So many rows of zeros."""
    columns = sql.SQL(", ").join(map(sql.Identifier, FEATURE_NAMES))
    zeros = sql.SQL(", ").join([sql.Literal(0)] * len(FEATURE_NAMES))
    with connect(installation.database_url) as connection:
        ensure_days(connection, "transaction_features", utc_now(), utc_now() + WINDOW)
        connection.execute(
            sql.SQL(
                "INSERT INTO transaction_features (txid, seen_at, window_start, context_version, {})"
                " SELECT n::text, now(), now(), 0, {} FROM generate_series(1, %s) AS n ON CONFLICT DO NOTHING"
            ).format(columns, zeros),
            [rows],
        )


def reason(result: dg.SensorResult | dg.SkipReason) -> str:
    assert isinstance(result, dg.SkipReason), result
    return str(result.skip_message)


def report(instance: dg.DagsterInstance, asset: str, windows: Sequence[str | None] = (None,)) -> None:
    for window in windows:
        instance.report_runless_asset_event(dg.AssetMaterialization(dg.AssetKey(asset), partition=window))


def test_it_waits_for_features_and_for_enough_of_them(
    installation: Installation, dagster_instance: dg.DagsterInstance
) -> None:
    assert reason(tick(installation, dagster_instance)) == "No window has features yet."
    report(dagster_instance, "transaction_features")
    write_features(installation, MIN_ROWS - 1)
    assert reason(tick(installation, dagster_instance)).startswith("4999 transactions have features; ")

    write_features(installation, MIN_ROWS)
    windows = [f"2024-03-14-01:{minute:02}" for minute in range(0, 55, 5)]
    report(dagster_instance, "transactions", windows)
    report(dagster_instance, "transaction_features", windows[:2])
    assert reason(tick(installation, dagster_instance)) == "9 of 11 sealed windows have no features yet."

    report(dagster_instance, "transaction_features", windows[2:10])  # the last one failed
    result = tick(installation, dagster_instance)
    assert isinstance(result, dg.SensorResult)

    @dg.job
    def training() -> None: ...

    run = dagster_instance.create_run_for_job(training, status=dg.DagsterRunStatus.STARTED)
    assert reason(tick(installation, dagster_instance)) == "The first model is being trained."
    dagster_instance.report_run_failed(run)
    assert reason(tick(installation, dagster_instance)).startswith("A training gave no model a while ago")
    dagster_instance.delete_run(run.run_id)
    assert isinstance(tick(installation, dagster_instance), dg.SensorResult)

    promote(installation, contract_fingerprint())
    report(dagster_instance, "champion_model")
    assert "There is a model" in reason(tick(installation, dagster_instance))


def test_after_an_upgrade_to_other_features_it_asks_again(
    installation: Installation, dagster_instance: dg.DagsterInstance
) -> None:
    promote(installation, "0123456789ab")
    report(dagster_instance, "champion_model")
    report(dagster_instance, "transaction_features")
    write_features(installation, MIN_ROWS)
    assert isinstance(tick(installation, dagster_instance), dg.SensorResult)
    promote(installation, contract_fingerprint())
    assert "There is a model" in reason(tick(installation, dagster_instance))


def promote(installation: Installation, contract: str) -> None:
    """Make a model of this feature contract the champion."""
    registry = ModelRegistry.of(installation.home, installation.database_url, None)
    features = np.random.default_rng(5).lognormal(3, 2, (600, len(FEATURE_NAMES)))
    trained = train(
        features, utc_now() - WINDOW, utc_now(), alerts_per_hour=12, whale_btc=500, seed=3, min_rows=1, trees=10
    )
    other = replace(trained, card=msgspec.structs.replace(trained.card, contract=contract))
    registry.promote(registered(registry, other, features), {})
