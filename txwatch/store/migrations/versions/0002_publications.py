"""The second feature contract; more of the network in its baseline; publications; derived tables partitioned by day.

The derived tables are emptied: what they held is computed again by materializing the windows.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_TIME = postgresql.TIMESTAMP(timezone=True)
_FIRST_FEATURES = (
    "value_sat",
    "fee_sat",
    "fee_rate",
    "vsize",
    "input_count",
    "output_count",
    "largest_output_share",
    "equal_output_count",
    "equal_output_share",
    "output_entropy",
    "dust_outputs",
    "round_outputs",
    "op_return_outputs",
    "input_script_types",
    "output_script_types",
    "reused_addresses",
    "moved_sat",
    "rbf",
    "fee_rate_over_median_1h",
    "value_over_median_24h",
    "input_address_tx_24h",
    "input_address_spent_sat_24h",
)
_FEATURES = (
    "value_sat",
    "fee_sat",
    "fee_rate",
    "fee_share",
    "vsize",
    "witness_share",
    "input_count",
    "output_count",
    "outputs_per_input",
    "equal_input_share",
    "input_value_spread",
    "largest_output_share",
    "equal_output_count",
    "equal_output_share",
    "equal_output_value_share",
    "output_entropy",
    "distinct_output_values",
    "distinct_output_addresses",
    "dust_outputs",
    "round_outputs",
    "op_return_outputs",
    "input_script_types",
    "output_script_types",
    "same_script_type",
    "input_legacy_share",
    "input_taproot_share",
    "output_legacy_share",
    "output_taproot_share",
    "reused_addresses",
    "moved_low_sat",
    "moved_sat",
    "moved_high_sat",
    "change_share",
    "rbf",
    "version",
    "lock_time_kind",
    "fee_rate_over_median_1h",
    "fee_rate_over_median_24h",
    "value_over_median_24h",
    "value_over_p99_24h",
    "kind_share_24h",
    "arrivals_1h_over_24h",
    "input_address_tx_24h",
    "input_address_tx_sum_24h",
    "input_address_received_sat_max_24h",
    "input_address_received_sat_24h",
    "input_address_spent_sat_max_24h",
    "input_address_spent_sat_24h",
    "input_address_known_h_24h",
    "input_address_idle_h_24h",
    "input_address_velocity_24h",
    "input_address_velocity_sum_24h",
)
_QUANTILES = (
    ("p10_value_sat_1h", "satoshi"),
    ("p90_value_sat_1h", "satoshi"),
    ("p99_value_sat_1h", "satoshi"),
    ("p10_fee_rate_1h", "sat/vB"),
    ("p90_fee_rate_1h", "sat/vB"),
    ("p99_fee_rate_1h", "sat/vB"),
    ("p10_value_sat_24h", "satoshi"),
    ("p90_value_sat_24h", "satoshi"),
    ("p10_fee_rate_24h", "sat/vB"),
    ("p90_fee_rate_24h", "sat/vB"),
)
_COMMENTED = ("median_value_sat_1h", "median_value_sat_24h", "p99_value_sat_24h")


def upgrade() -> None:
    op.execute(sa.schema.CreateSequence(sa.Sequence("context_publications")))
    op.execute("TRUNCATE network_baseline")
    op.add_column(
        "network_baseline",
        sa.Column("publication", sa.BIGINT, nullable=False, comment="address buckets written later are no part of it"),
    )
    op.add_column(
        "network_baseline",
        sa.Column(
            "kind_counts",
            postgresql.ARRAY(sa.Integer),
            nullable=False,
            comment="of the window itself, by kinds.KINDS",
        ),
    )
    for span in ("1h", "24h"):
        op.add_column("network_baseline", sa.Column(f"kind_counts_{span}", postgresql.ARRAY(sa.BIGINT), nullable=False))
    for name, unit in _QUANTILES:
        op.add_column("network_baseline", sa.Column(name, sa.Float(53), comment=unit))
    for name in _COMMENTED:
        op.alter_column("network_baseline", name, comment="satoshi")
    op.drop_table("address_activity")
    op.create_table(
        "address_activity",
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("window_start", _TIME, nullable=False),
        sa.Column("written", sa.BIGINT, nullable=False, comment="publication that wrote it"),
        sa.Column("superseded", sa.BIGINT, comment="publication that found it wrong, NULL while it holds"),
        *_activity_columns(),
        postgresql_partition_by="RANGE (window_start)",
    )
    op.create_index("ix_address_activity_address", "address_activity", ["address"], postgresql_using="hash")
    op.create_table(
        "address_windows",
        sa.Column("window_start", _TIME, primary_key=True),
        sa.Column(
            "publication",
            sa.BIGINT,
            nullable=False,
            comment="the last one that wrote address buckets of the window",
        ),
    )
    op.drop_table("transaction_features")
    op.create_table(
        "transaction_features",
        sa.Column("seen_at", _TIME, nullable=False),
        sa.Column("txid", sa.Text, nullable=False),
        sa.Column("window_start", _TIME, nullable=False),
        sa.Column("context_version", sa.BIGINT, nullable=False),
        *_feature_columns(_FEATURES),
        sa.PrimaryKeyConstraint("seen_at", "txid"),
        postgresql_partition_by="RANGE (seen_at)",
    )
    op.create_index("ix_transaction_features_txid", "transaction_features", ["txid"], postgresql_using="hash")


def downgrade() -> None:
    op.drop_table("transaction_features")
    op.create_table(
        "transaction_features",
        sa.Column("txid", sa.Text, primary_key=True),
        sa.Column("seen_at", _TIME, nullable=False),
        sa.Column("window_start", _TIME, nullable=False),
        sa.Column("context_version", sa.BIGINT, nullable=False),
        sa.Column("computed_at", _TIME, server_default=sa.func.now(), nullable=False),
        *_feature_columns(_FIRST_FEATURES),
    )
    op.create_index("ix_transaction_features_seen_at", "transaction_features", ["seen_at"])
    op.create_index("ix_transaction_features_window_start", "transaction_features", ["window_start"])
    op.drop_table("address_windows")
    op.drop_table("address_activity")
    op.create_table(
        "address_activity",
        sa.Column("address", sa.Text, primary_key=True),
        sa.Column("window_start", _TIME, primary_key=True),
        *_activity_columns(),
    )
    op.create_index("ix_address_activity_window_start", "address_activity", ["window_start"])
    op.execute("TRUNCATE network_baseline")
    for name in _COMMENTED:
        op.alter_column("network_baseline", name, comment=None)
    for name, _ in _QUANTILES:
        op.drop_column("network_baseline", name)
    for name in ("publication", "kind_counts", "kind_counts_1h", "kind_counts_24h"):
        op.drop_column("network_baseline", name)
    op.execute(sa.schema.DropSequence(sa.Sequence("context_publications")))


def _activity_columns() -> list[sa.Column[Any]]:
    return [
        sa.Column("tx_count", sa.Integer, nullable=False),
        sa.Column("received_sat", sa.BIGINT, nullable=False),
        sa.Column("spent_sat", sa.BIGINT, nullable=False),
        sa.Column("first_seen_at", _TIME, nullable=False),
        sa.Column("last_seen_at", _TIME, nullable=False),
    ]


def _feature_columns(names: tuple[str, ...]) -> list[sa.Column[Any]]:
    return [sa.Column(name, sa.Float(53), nullable=False, comment="NaN when unknown") for name in names]
