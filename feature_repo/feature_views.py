"""The feature views, each over the table that its asset writes, and the feature service that models are trained on."""

from dataclasses import fields
from datetime import timedelta
from typing import Any

from feast import FeatureService, FeatureView, Field
from feast.infra.offline_stores.contrib.postgres_offline_store.postgres_source import PostgreSQLSource
from feast.types import Array, Float32, Float64, Int64, UnixTimestamp

from feature_repo.entities import address, network, transaction
from txwatch.features.context import NetworkContext
from txwatch.features.contract import CONTRACT_VERSION, FEATURES

FOR_EVER = timedelta(0)
_FLOATS = {"float32": Float32, "float64": Float64}

transaction_features = FeatureView(
    name="transaction_features",
    entities=[transaction],
    ttl=FOR_EVER,
    schema=[Field(name=f.name, dtype=_FLOATS[f.type], description=f"{f.reason} ({f.unit})") for f in FEATURES],
    source=PostgreSQLSource(
        name="transaction_features", table="public.transaction_features", timestamp_field="seen_at"
    ),
    description="The feature contract of each transaction; NaN where unknown.",
)

_NETWORK_TYPES: dict[Any, Any] = {int: Int64, float | None: Float64, tuple[int, ...]: Array(Int64)}

network_context = FeatureView(
    name="network_context",
    entities=[network],
    ttl=FOR_EVER,
    schema=[
        Field(name="context_version", dtype=Int64),
        *(
            Field(name=field.name, dtype=_NETWORK_TYPES[field.type])
            for field in fields(NetworkContext)
            if field.name not in {"as_of", "version"}
        ),
    ],
    source=PostgreSQLSource(
        name="network_context",
        query="SELECT to_char(window_start AT TIME ZONE 'UTC', 'YYYY-MM-DD-HH24:MI') AS as_of, *"
        " FROM public.network_baseline",
        # Online stores keep the newest row, which is the latest version of a window.
        timestamp_field="computed_at",
    ),
    description="Arrival rate, kinds, amounts and fee rates of the hour and the day that end with a window.",
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
    source=PostgreSQLSource(
        name="address_activity",
        query="SELECT * FROM public.address_activity WHERE superseded IS NULL",
        timestamp_field="window_start",
    ),
    online=False,
    description="What an address did in one window. Scoring sums a trailing day of these in SQL.",
)

anomaly_model_features = FeatureService(
    name=f"anomaly_model_v{CONTRACT_VERSION}",
    features=[transaction_features],
    description="What anomaly models of this feature contract are trained on.",
)


VIEWS = [transaction_features, network_context, address_activity]
CATALOGUE = [transaction, address, network, *VIEWS, anomaly_model_features]
