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
        with database.connect() as connection, connection.transaction():
            buckets = write_address_activity(connection, *window_span(context))
        return dg.MaterializeResult(metadata={"buckets": buckets})

    return address_activity
