"""Asks for the first model as soon as there is enough to learn from. Later ones come by schedule."""

from datetime import timedelta

import dagster as dg

from blockchain_assets import keys
from resources.database import DatabaseResource
from resources.model_registry import ModelRegistryResource
from sensors.events import NOT_FINISHED, materialized_windows, running_sensor, was_materialized, was_run_lately
from txwatch.detection.training import MIN_ROWS
from txwatch.features.contract import contract_fingerprint
from txwatch.store.database import database_now

RETRY_AFTER = timedelta(minutes=10)
BEHIND_SHARE = 0.1
"""With a larger share of sealed windows without features, a history is still landing. A few may have failed."""


@running_sensor(
    job_name="training",
    minimum_interval_seconds=1,
    description="Asks for the training of a first model once enough transactions have features, and again if the"
    " champion is of another feature contract, as after an upgrade.",
)
def first_training_sensor(
    context: dg.SensorEvaluationContext, database: DatabaseResource, model_registry: ModelRegistryResource
) -> dg.SensorResult | dg.SkipReason:
    champion = context.instance.get_latest_materialization_event(keys.CHAMPION_MODEL)
    if champion is not None:
        # The registry is asked once for each decision and each contract.
        known = f"{champion.run_id} {contract_fingerprint()}"
        if context.cursor == known or model_registry.open().champion_fits():
            context.update_cursor(known)
            return dg.SkipReason("There is a model; the daily schedule trains the next one.")
    if context.instance.get_runs_count(dg.RunsFilter(job_name="training", statuses=NOT_FINISHED)):
        return dg.SkipReason("The first model is being trained.")
    # The event comes when a run is over. Rows alone would show the first windows of a long history.
    if not was_materialized(context.instance, keys.TRANSACTION_FEATURES):
        return dg.SkipReason("No window has features yet.")
    sealed, featured = materialized_windows(context.instance, keys.TRANSACTIONS, keys.TRANSACTION_FEATURES)
    behind = len(sealed - featured)
    if behind > BEHIND_SHARE * len(sealed):
        # A model of the first half-hour of a history would alert far above its budget on the rest, and be refused.
        return dg.SkipReason(f"{behind} of {len(sealed)} sealed windows have no features yet.")
    with database.connect() as connection:
        row = connection.execute("SELECT count(*) FROM transaction_features").fetchone()
        now = database_now(connection)
    rows = row[0] if row else 0
    if rows < MIN_ROWS:
        return dg.SkipReason(f"{rows} transactions have features; the first training wants {MIN_ROWS}.")
    if was_run_lately(context.instance, "training", now, RETRY_AFTER):
        return dg.SkipReason("A training gave no model a while ago; the next one waits.")
    return dg.SensorResult(run_requests=[dg.RunRequest()])
