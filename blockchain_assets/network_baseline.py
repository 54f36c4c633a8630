"""`network_baseline`: the state of the network as of each window, for the transactions two windows later."""

import dagster as dg

from blockchain_assets import keys
from blockchain_assets.windows import window_asset, window_span
from resources.database import DatabaseResource
from resources.feature_store import FeatureStoreResource
from txwatch.clock import window_key
from txwatch.features.context import NetworkContext
from txwatch.features.network import publish_network_baseline


def network_baseline_asset(windows: dg.TimeWindowPartitionsDefinition) -> dg.AssetsDefinition:
    @window_asset(
        windows,
        key=keys.NETWORK_BASELINE,
        group_name="features",
        code_version="2",
        # A context is published after the address rows that it sums.
        deps=[keys.TRANSACTIONS, keys.ADDRESS_ACTIVITY],
        kinds={"postgres", "python"},
        description="A row is the state of the network as of one window: arrivals, amounts and fee rates of the"
        " trailing hour and day. Transactions of two windows later are judged by it.\n\nPublished once; a window that"
        " is materialized again adds a new context version only if it differs, and changes none. Kept for"
        " TXWATCH_RETENTION_DAYS.",
    )
    def network_baseline(
        context: dg.AssetExecutionContext, database: DatabaseResource, feature_store: FeatureStoreResource
    ) -> dg.MaterializeResult:
        with database.connect() as connection:
            contexts = publish_network_baseline(connection, *window_span(context))
        try:
            feature_store.push_network_contexts(contexts)
            online = True
        except Exception as error:  # any client's; the live lane reads the table then, for no alert waits for a cache
            context.log.warning(f"The online store did not take the contexts: {error}")
            online = False
        for as_of in contexts:
            context.add_asset_metadata(_figures(as_of), partition_key=window_key(as_of.as_of))
        return dg.MaterializeResult(metadata={"online": online})

    return network_baseline


def _figures(context: NetworkContext) -> dict[str, float]:
    return {
        "context_version": context.version,
        "tx_count_1h": context.tx_count_1h,
        "tx_count_24h": context.tx_count_24h,
        "median_fee_rate_1h_sat_per_vb": context.median_fee_rate_1h or 0.0,
        "median_value_24h_sat": context.median_value_sat_24h or 0.0,
    }
