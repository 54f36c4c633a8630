"""`transaction_features`: one row of numbers for each transaction, the input of every model."""

import dagster as dg

from blockchain_assets import keys
from blockchain_assets.windows import ERROR, SCORING_POOL, check_result, window_asset, window_span
from resources.database import DatabaseResource
from txwatch.clock import window_key
from txwatch.features.contract import CONTRACT_VERSION, FEATURE_NAMES, contract_fingerprint
from txwatch.features.store import count_without_features, write_features

ALL_HAVE_FEATURES = dg.AssetCheckSpec(
    "every_transaction_has_features",
    asset=keys.TRANSACTION_FEATURES,
    description="Each transaction of the windows has its row. If not, nothing is scored from half a window: the run"
    " ends here, and the window is asked for again.",
    blocking=True,
)


def transaction_features_asset(windows: dg.TimeWindowPartitionsDefinition) -> dg.AssetsDefinition:
    @window_asset(
        windows,
        key=keys.TRANSACTION_FEATURES,
        group_name="features",
        code_version=f"contract {CONTRACT_VERSION}",
        check_specs=[ALL_HAVE_FEATURES],
        pool=SCORING_POOL,
        deps=[keys.TRANSACTIONS, keys.NETWORK_BASELINE, keys.ADDRESS_ACTIVITY],
        kinds={"postgres", "numpy"},
        description="A row is one transaction as the numbers that models and rules see (docs/features.md), from itself"
        " and the context of two windows before.\n\nA window that is materialized again is rewritten whole. Kept for"
        " TXWATCH_RETENTION_DAYS.",
    )
    def transaction_features(context: dg.AssetExecutionContext, database: DatabaseResource) -> dg.MaterializeResult:
        rows = 0
        with database.connect() as connection:
            for window in write_features(connection, *window_span(context)):
                rows += len(window.batch)
                key = window_key(window.window_start)
                context.add_asset_metadata({"dagster/partition_row_count": len(window.batch)}, partition_key=key)
                if window.window_start.minute == 0:
                    context.log.info(f"At {key}: {rows} transactions so far.")
            missing = count_without_features(connection, *window_span(context))
        return dg.MaterializeResult(
            metadata={"features": len(FEATURE_NAMES), "contract": contract_fingerprint()},
            check_results=[check_result(ALL_HAVE_FEATURES, missing == 0, {"without_features": missing}, ERROR)],
        )

    return transaction_features
