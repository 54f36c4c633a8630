"""`transaction_features`: one row of numbers for each transaction, the input of every model."""

import dagster as dg

from blockchain_assets import keys
from blockchain_assets.windows import SCORING_POOL, window_asset, window_span
from resources.database import DatabaseResource
from txwatch.clock import window_key
from txwatch.features.contract import FEATURE_NAMES, contract_fingerprint
from txwatch.features.store import write_features


def transaction_features_asset(windows: dg.TimeWindowPartitionsDefinition) -> dg.AssetsDefinition:
    @window_asset(
        windows,
        group="features",
        pool=SCORING_POOL,
        deps=[keys.TRANSACTIONS, keys.NETWORK_BASELINE, keys.ADDRESS_ACTIVITY],
        kinds={"postgres", "numpy"},
        description="The feature contract of each transaction, from itself and the context of two windows before.",
    )
    def transaction_features(context: dg.AssetExecutionContext, database: DatabaseResource) -> dg.MaterializeResult:
        rows = 0
        with database.connect() as connection:
            for window in write_features(connection, *window_span(context)):
                rows += len(window.batch)
                key = window_key(window.window_start)
                context.add_asset_metadata({"rows": len(window.batch)}, partition_key=key)
                if window.window_start.minute == 0:
                    context.log.info(f"At {key}: {rows} transactions so far.")
        return dg.MaterializeResult(metadata={"features": len(FEATURE_NAMES), "contract": contract_fingerprint()})

    return transaction_features
