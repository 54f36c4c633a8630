"""The feature views, each over the table that its asset writes, and the feature service that models are trained on."""

from datetime import timedelta

from feast import FeatureService, FeatureView, Field
from feast.infra.offline_stores.contrib.postgres_offline_store.postgres_source import PostgreSQLSource
from feast.types import Float64, Int64, UnixTimestamp

from feature_repo.entities import address, network, transaction
from txwatch.features.contract import CONTRACT_VERSION, FEATURES

FOR_EVER = timedelta(0)

transaction_features = FeatureView(
    name="transaction_features",
    entities=[transaction],
    ttl=FOR_EVER,
    schema=[Field(name=f.name, dtype=Float64, description=f"{f.reason} ({f.unit})") for f in FEATURES],
    source=PostgreSQLSource(
        name="transaction_features", table="public.transaction_features", timestamp_field="seen_at"
    ),
    description="The feature contract of each transaction; NaN where unknown.",
)

network_context = FeatureView(
    name="network_context",
    entities=[network],
    ttl=FOR_EVER,
    schema=[
        Field(name="context_version", dtype=Int64),
        Field(name="tx_count_1h", dtype=Int64, description="transactions in the trailing hour"),
        Field(name="tx_count_24h", dtype=Int64, description="transactions in the trailing day"),
        Field(name="windows_24h", dtype=Int64, description="windows that the trailing day really holds"),
        Field(name="median_value_sat_1h", dtype=Float64, description="satoshi"),
        Field(name="median_fee_rate_1h", dtype=Float64, description="sat/vB"),
        Field(name="median_value_sat_24h", dtype=Float64, description="satoshi"),
        Field(name="p99_value_sat_24h", dtype=Float64, description="satoshi"),
        Field(name="median_fee_rate_24h", dtype=Float64, description="sat/vB"),
        Field(name="p99_fee_rate_24h", dtype=Float64, description="sat/vB"),
    ],
    source=PostgreSQLSource(
        name="network_context",
        query="SELECT to_char(window_start AT TIME ZONE 'UTC', 'YYYY-MM-DD-HH24:MI') AS as_of, *"
        " FROM public.network_baseline",
        timestamp_field="window_start",
        created_timestamp_column="computed_at",
    ),
    description="Arrival rate, amounts and fee rates of the hour and the day that end with a window.",
)

address_activity = FeatureView(
    name="address_activity",
    entities=[address],
    ttl=timedelta(hours=24),
    schema=[
        Field(name="tx_count", dtype=Int64, description="transactions of the window"),
        Field(name="received_sat", dtype=Int64, description="satoshi"),
        Field(name="spent_sat", dtype=Int64, description="satoshi"),
        Field(name="first_seen_at", dtype=UnixTimestamp),
        Field(name="last_seen_at", dtype=UnixTimestamp),
    ],
    source=PostgreSQLSource(name="address_activity", table="public.address_activity", timestamp_field="window_start"),
    online=False,
    description="What an address did in one window. Scoring sums a trailing day of these by SQL.",
)

anomaly_model_features = FeatureService(
    name=f"anomaly_model_v{CONTRACT_VERSION}",
    features=[transaction_features],
    description="What anomaly models of this feature contract are trained on.",
)

CATALOGUE = [
    transaction,
    address,
    network,
    transaction_features,
    network_context,
    address_activity,
    anomaly_model_features,
]
