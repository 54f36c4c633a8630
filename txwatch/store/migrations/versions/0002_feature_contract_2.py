"""The second feature contract, and counts by kind and more quantiles in the network's baseline.

Both tables are derived: what they held is computed again by materializing the windows.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_FEATURES = (
    "fee_share",
    "witness_share",
    "outputs_per_input",
    "equal_input_share",
    "input_value_spread",
    "equal_output_value_share",
    "distinct_output_values",
    "distinct_output_addresses",
    "same_script_type",
    "input_legacy_share",
    "input_taproot_share",
    "output_legacy_share",
    "output_taproot_share",
    "moved_low_sat",
    "moved_high_sat",
    "change_share",
    "version",
    "lock_time_kind",
    "fee_rate_over_median_24h",
    "value_over_p99_24h",
    "kind_share_24h",
    "arrivals_1h_over_24h",
    "input_address_tx_sum_24h",
    "input_address_received_sat_max_24h",
    "input_address_received_sat_24h",
    "input_address_spent_sat_max_24h",
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
    op.execute("TRUNCATE network_baseline, transaction_features")
    for name in _FEATURES:
        op.add_column("transaction_features", sa.Column(name, sa.Float(53), nullable=False, comment="NaN when unknown"))
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


def downgrade() -> None:
    op.execute("TRUNCATE network_baseline, transaction_features")
    for name in _COMMENTED:
        op.alter_column("network_baseline", name, comment=None)
    for name, _ in _QUANTILES:
        op.drop_column("network_baseline", name)
    for name in ("kind_counts", "kind_counts_1h", "kind_counts_24h"):
        op.drop_column("network_baseline", name)
    for name in _FEATURES:
        op.drop_column("transaction_features", name)
