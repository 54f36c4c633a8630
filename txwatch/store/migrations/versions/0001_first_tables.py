"""The first tables."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "address_activity",
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("window_start", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("tx_count", sa.Integer(), nullable=False),
        sa.Column("received_sat", sa.BIGINT(), nullable=False),
        sa.Column("spent_sat", sa.BIGINT(), nullable=False),
        sa.Column("first_seen_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("last_seen_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("address", "window_start"),
    )
    op.create_index(op.f("ix_address_activity_window_start"), "address_activity", ["window_start"], unique=False)
    op.create_table(
        "blocks",
        sa.Column("hash", sa.Text(), nullable=False, comment="the key, for a chain split has two blocks of one height"),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("block_time", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("seen_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("tx_count", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("hash"),
    )
    op.create_index(op.f("ix_blocks_height"), "blocks", ["height"], unique=False)
    op.create_table(
        "feed_gaps",
        sa.Column("id", sa.BIGINT(), sa.Identity(always=False), nullable=False),
        sa.Column("started_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("ended_at", postgresql.TIMESTAMP(timezone=True), nullable=True, comment="NULL while the gap lasts"),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default="open", nullable=False),
        sa.Column(
            "recovered", sa.BIGINT(), server_default="0", nullable=False, comment="transactions landed from blocks"
        ),
        sa.CheckConstraint("state IN ('open', 'ended', 'recovered')", name="state_is_known"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_feed_gaps_started_at"), "feed_gaps", ["started_at"], unique=False)
    op.create_table(
        "ingest_lease",
        sa.Column("id", sa.SmallInteger(), server_default="1", nullable=False),
        sa.Column("epoch", sa.BIGINT(), nullable=False, comment="grows with every holder; the highest one lands"),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("acquired_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("heartbeat_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column(
            "expires_at",
            postgresql.TIMESTAMP(timezone=True),
            nullable=True,
            comment="when the holder's shift ends; NULL in the foreground",
        ),
        sa.Column("released_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column(
            "committed_through",
            postgresql.TIMESTAMP(timezone=True),
            nullable=True,
            comment="all that was seen before this moment is committed",
        ),
        sa.Column("received", sa.BIGINT(), server_default="0", nullable=False, comment="messages over all epochs"),
        sa.Column("duplicates", sa.BIGINT(), server_default="0", nullable=False),
        sa.Column("ignored", sa.BIGINT(), server_default="0", nullable=False, comment="operations not used here"),
        sa.CheckConstraint("id = 1", name="one_row"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "network_baseline",
        sa.Column("window_start", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("context_version", sa.BIGINT(), nullable=False),
        sa.Column("tx_count", sa.Integer(), nullable=False, comment="of the window itself"),
        sa.Column("value_sat", sa.Numeric(precision=20, scale=0), nullable=False, comment="of the window itself"),
        sa.Column(
            "value_histogram",
            postgresql.ARRAY(sa.Integer()),
            nullable=False,
            comment="counts by log2 bin, of the window itself",
        ),
        sa.Column("fee_rate_histogram", postgresql.ARRAY(sa.Integer()), nullable=False, comment="counts by log2 bin"),
        sa.Column("tx_count_1h", sa.BIGINT(), nullable=False, comment="trailing hour that ends with the window"),
        sa.Column("tx_count_24h", sa.BIGINT(), nullable=False),
        sa.Column("windows_24h", sa.Integer(), nullable=False, comment="windows that the trailing day really holds"),
        sa.Column("median_value_sat_1h", sa.Float(precision=53), nullable=True),
        sa.Column("median_fee_rate_1h", sa.Float(precision=53), nullable=True, comment="sat/vB"),
        sa.Column("median_value_sat_24h", sa.Float(precision=53), nullable=True),
        sa.Column("p99_value_sat_24h", sa.Float(precision=53), nullable=True),
        sa.Column("median_fee_rate_24h", sa.Float(precision=53), nullable=True, comment="sat/vB"),
        sa.Column("p99_fee_rate_24h", sa.Float(precision=53), nullable=True, comment="sat/vB"),
        sa.Column("computed_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("window_start", "context_version"),
    )
    op.create_table(
        "quarantined_messages",
        sa.Column("id", sa.BIGINT(), sa.Identity(always=False), nullable=False),
        sa.Column("received_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False, comment="bytes of the whole message"),
        sa.Column("body", sa.LargeBinary(), nullable=False, comment="its first 64 KiB"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_quarantined_messages_received_at"), "quarantined_messages", ["received_at"], unique=False)
    op.create_table(
        "transaction_features",
        sa.Column("txid", sa.Text(), nullable=False),
        sa.Column("seen_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("window_start", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("context_version", sa.BIGINT(), nullable=False),
        sa.Column("computed_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("value_sat", sa.Float(precision=53), nullable=False, comment="NaN when unknown"),
        sa.Column("fee_sat", sa.Float(precision=53), nullable=False, comment="NaN when unknown"),
        sa.Column("fee_rate", sa.Float(precision=53), nullable=False, comment="NaN when unknown"),
        sa.Column("vsize", sa.Float(precision=53), nullable=False, comment="NaN when unknown"),
        sa.Column("input_count", sa.Float(precision=53), nullable=False, comment="NaN when unknown"),
        sa.Column("output_count", sa.Float(precision=53), nullable=False, comment="NaN when unknown"),
        sa.Column("largest_output_share", sa.Float(precision=53), nullable=False, comment="NaN when unknown"),
        sa.Column("equal_output_count", sa.Float(precision=53), nullable=False, comment="NaN when unknown"),
        sa.Column("equal_output_share", sa.Float(precision=53), nullable=False, comment="NaN when unknown"),
        sa.Column("output_entropy", sa.Float(precision=53), nullable=False, comment="NaN when unknown"),
        sa.Column("dust_outputs", sa.Float(precision=53), nullable=False, comment="NaN when unknown"),
        sa.Column("round_outputs", sa.Float(precision=53), nullable=False, comment="NaN when unknown"),
        sa.Column("op_return_outputs", sa.Float(precision=53), nullable=False, comment="NaN when unknown"),
        sa.Column("input_script_types", sa.Float(precision=53), nullable=False, comment="NaN when unknown"),
        sa.Column("output_script_types", sa.Float(precision=53), nullable=False, comment="NaN when unknown"),
        sa.Column("reused_addresses", sa.Float(precision=53), nullable=False, comment="NaN when unknown"),
        sa.Column("moved_sat", sa.Float(precision=53), nullable=False, comment="NaN when unknown"),
        sa.Column("rbf", sa.Float(precision=53), nullable=False, comment="NaN when unknown"),
        sa.Column("fee_rate_over_median_1h", sa.Float(precision=53), nullable=False, comment="NaN when unknown"),
        sa.Column("value_over_median_24h", sa.Float(precision=53), nullable=False, comment="NaN when unknown"),
        sa.Column("input_address_tx_24h", sa.Float(precision=53), nullable=False, comment="NaN when unknown"),
        sa.Column("input_address_spent_sat_24h", sa.Float(precision=53), nullable=False, comment="NaN when unknown"),
        sa.PrimaryKeyConstraint("txid"),
    )
    op.create_index(op.f("ix_transaction_features_seen_at"), "transaction_features", ["seen_at"], unique=False)
    op.create_index(
        op.f("ix_transaction_features_window_start"), "transaction_features", ["window_start"], unique=False
    )
    op.create_table(
        "transaction_scores",
        sa.Column("txid", sa.Text(), nullable=False),
        sa.Column("model_version", sa.Text(), nullable=False),
        sa.Column("context_version", sa.BIGINT(), nullable=False),
        sa.Column("seen_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("lane", sa.Text(), nullable=False, comment="live or window"),
        sa.Column("score", sa.Float(precision=53), nullable=False, comment="0 to 1, higher is more unusual"),
        sa.Column("threshold", sa.Float(precision=53), nullable=False),
        sa.Column("is_anomaly", sa.Boolean(), nullable=False),
        sa.Column("reasons", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column(
            "scored_at",
            postgresql.TIMESTAMP(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.CheckConstraint("lane IN ('live', 'window')", name="lane_is_known"),
        sa.PrimaryKeyConstraint("txid", "model_version", "context_version"),
    )
    op.create_index(op.f("ix_transaction_scores_seen_at"), "transaction_scores", ["seen_at"], unique=False)
    op.create_table(
        "transactions",
        sa.Column("txid", sa.Text(), nullable=False),
        sa.Column("seen_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("feed_time", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("value_sat", sa.BIGINT(), nullable=False),
        sa.Column("input_sat", sa.BIGINT(), nullable=True, comment="NULL when any spent output is unknown"),
        sa.Column(
            "fee_sat", sa.BIGINT(), nullable=True, comment="NULL when any spent output is unknown, never 0 for that"
        ),
        sa.Column("vsize", sa.Integer(), nullable=False),
        sa.Column("weight", sa.Integer(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("input_count", sa.Integer(), nullable=False),
        sa.Column("output_count", sa.Integer(), nullable=False),
        sa.Column("rbf", sa.Boolean(), nullable=False),
        sa.Column("version", sa.BIGINT(), nullable=False),
        sa.Column("lock_time", sa.BIGINT(), nullable=False),
        sa.Column(
            "inputs",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="[{addr, value, type, n}] of the outputs spent",
        ),
        sa.Column(
            "outputs", postgresql.JSONB(astext_type=sa.Text()), nullable=False, comment="[{addr, value, type, n}]"
        ),
        sa.Column("source", sa.Text(), nullable=False, comment="feed, bulk or block"),
        sa.Column(
            "landed_at",
            postgresql.TIMESTAMP(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.CheckConstraint("source IN ('feed', 'bulk', 'block')", name="source_is_known"),
        sa.PrimaryKeyConstraint("txid"),
    )
    op.create_index(op.f("ix_transactions_seen_at"), "transactions", ["seen_at"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_transactions_seen_at"), table_name="transactions")
    op.drop_table("transactions")
    op.drop_index(op.f("ix_transaction_scores_seen_at"), table_name="transaction_scores")
    op.drop_table("transaction_scores")
    op.drop_index(op.f("ix_transaction_features_window_start"), table_name="transaction_features")
    op.drop_index(op.f("ix_transaction_features_seen_at"), table_name="transaction_features")
    op.drop_table("transaction_features")
    op.drop_index(op.f("ix_quarantined_messages_received_at"), table_name="quarantined_messages")
    op.drop_table("quarantined_messages")
    op.drop_table("network_baseline")
    op.drop_table("ingest_lease")
    op.drop_index(op.f("ix_feed_gaps_started_at"), table_name="feed_gaps")
    op.drop_table("feed_gaps")
    op.drop_index(op.f("ix_blocks_height"), table_name="blocks")
    op.drop_table("blocks")
    op.drop_index(op.f("ix_address_activity_window_start"), table_name="address_activity")
    op.drop_table("address_activity")
