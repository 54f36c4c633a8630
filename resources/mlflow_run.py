"""dagster-mlflow's resource: one MLflow run for each Dagster run that trains.

It is wrapped because importing it imports mlflow, which takes seconds. It opens its run when it is initialised, so only
the training asset may require it.
"""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from txwatch.detection.registry import EXPERIMENT


@dg.resource(
    config_schema={"experiment_name": dg.Field(str, default_value=EXPERIMENT)},
    required_resource_keys={"model_registry"},
    description="The MLflow run of this Dagster run, opened by dagster-mlflow.",
)
def mlflow_run(context: dg.InitResourceContext) -> Iterator[Any]:
    """Open the run, and end it as failed unless the asset has ended it. A hook misses assets that are run by hand."""
    from dagster_mlflow import mlflow_tracking

    context.resources.model_registry.open().prepare()
    for run in mlflow_tracking.resource_fn(context):
        try:
            yield run
        finally:
            run.end_run("FAILED")
