"""`address_activity`: what each address did in each window."""

import dagster as dg

from blockchain_assets.windows import window_asset, window_span
from resources.database import DatabaseResource
from txwatch.features.addresses import write_address_activity


def address_activity_asset(windows: dg.TimeWindowPartitionsDefinition) -> dg.AssetsDefinition:
    @window_asset(
        windows,
        group="features",
        deps=["transactions"],
        kinds={"postgres", "sql"},
        description="One bucket for each address and window: transactions, satoshi received and spent, first and last"
        " seen. Summed over a trailing day where a transaction is scored.",
    )
    def address_activity(context: dg.AssetExecutionContext, database: DatabaseResource) -> dg.MaterializeResult:
        buckets = 0
        with database.connect() as connection:
            for hour, written in enumerate(write_address_activity(connection, *window_span(context)), start=1):
                buckets += written
                context.log.info(f"Hour {hour}: {buckets} buckets so far.")
        return dg.MaterializeResult(metadata={"buckets_written": buckets})

    return address_activity
