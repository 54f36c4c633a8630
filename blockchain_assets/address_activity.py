"""`address_activity`: what each address did in each window."""

from datetime import datetime

import dagster as dg

from blockchain_assets import keys
from blockchain_assets.windows import window_asset, window_span
from resources.database import DatabaseResource
from txwatch.clock import window_key, window_range
from txwatch.features.addresses import write_address_activity


def address_activity_asset(windows: dg.TimeWindowPartitionsDefinition, shards: int) -> dg.AssetsDefinition:
    """The asset, written by as many connections at once as there are `shards`."""

    @window_asset(
        windows,
        key=keys.ADDRESS_ACTIVITY,
        group_name="features",
        code_version="2",
        deps=[keys.TRANSACTIONS],
        kinds={"postgres", "sql"},
        description="A row is one address in one window: its transactions, the satoshi that it received and spent,"
        " when it was first and last seen.\n\nScoring a transaction sums a trailing day of its input addresses."
        " Insert-only: a window that is materialized again supersedes rows and keeps them. Kept for"
        " TXWATCH_RETENTION_DAYS.",
    )
    def address_activity(context: dg.AssetExecutionContext, database: DatabaseResource) -> dg.MaterializeResult:
        start, end = window_span(context)
        written: dict[datetime, int] = {}
        with database.connect_several(shards) as connections:
            for stop, buckets in write_address_activity(connections, start, end):
                written |= buckets
                context.log.info(f"Until {window_key(stop)}: {sum(written.values())} buckets so far.")
        for window in window_range(start, end):
            context.add_asset_metadata({"buckets_written": written.get(window, 0)}, partition_key=window_key(window))
        return dg.MaterializeResult()

    return address_activity
