"""Several sources: who saw what, which coins are spent and how old they are, and what became of a transaction."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"

_time = sa.TIMESTAMP(timezone=True)

UNHEARD = """
-- When no source was heard between two moments: each that was followed then had a gap. Gaps of one state are left out.
-- Times at which none was followed are no part of it.
CREATE FUNCTION unheard(from_at timestamptz, until_at timestamptz, but_for text) RETURNS tstzmultirange
LANGUAGE sql STABLE AS $$
WITH gaps AS (
    SELECT source, range_agg(tstzrange(started_at, coalesce(ended_at, 'infinity'))) AS missed
    FROM feed_gaps
    WHERE state <> but_for AND started_at < until_at AND coalesce(ended_at, 'infinity') > from_at
    GROUP BY source
),
followed AS (
    SELECT
        source,
        CASE WHEN followed_since IS NULL THEN '{}' ELSE tstzmultirange(
            tstzrange('-infinity', followed_since), tstzrange(greatest(noted_at, followed_since), 'infinity')
        ) END AS not_followed,
        coalesce(missed, '{}') AS missed
    FROM feed_sources
    FULL JOIN (SELECT * FROM gaps WHERE source <> 'all sources') AS of_sources USING (source)
)
SELECT (
    coalesce(range_intersect_agg(missed + not_followed) - range_intersect_agg(not_followed), '{}')
    + coalesce((SELECT missed FROM gaps WHERE source = 'all sources'), '{}')
) * tstzmultirange(tstzrange(from_at, until_at))
FROM followed
$$
"""


def upgrade() -> None:
    """Gaps and completeness get their source; what was followed until now is blockchain.info."""
    op.add_column(
        "transactions",
        sa.Column("tip_height", sa.Integer, comment="of the chain when it was seen; NULL where no source tells"),
    )
    op.create_table(
        "sightings",
        sa.Column("txid", sa.Text, primary_key=True),
        sa.Column("source", sa.Text, primary_key=True),
        sa.Column("seen_at", _time, nullable=False),
        comment="which source told of a transaction, and when first",
    )
    op.create_index("ix_sightings_seen_at", "sightings", ["seen_at"], postgresql_using="brin")
    op.create_table(
        "spends",
        sa.Column("prev_txid", sa.Text, primary_key=True),
        sa.Column("vout", sa.BIGINT, primary_key=True),
        sa.Column("txid", sa.Text, primary_key=True, comment="spends that output; several do where they conflict"),
        sa.Column("seen_at", _time, nullable=False),
        comment="which coins a transaction spends, where its source tells which transaction made them",
    )
    op.create_index("ix_spends_seen_at", "spends", ["seen_at"], postgresql_using="brin")
    op.create_table(
        "contested_outpoints",
        sa.Column("prev_txid", sa.Text, primary_key=True),
        sa.Column("vout", sa.BIGINT, primary_key=True),
        sa.Column("seen_at", _time, nullable=False, comment="when the newest of its spenders was seen"),
        comment="coins that several transactions spend",
    )
    op.create_index("ix_contested_outpoints_seen_at", "contested_outpoints", ["seen_at"])
    op.create_table(
        "removals",
        sa.Column("txid", sa.Text, primary_key=True),
        sa.Column("source", sa.Text, primary_key=True),
        sa.Column("removed_at", _time, primary_key=True),
        sa.Column("replaced_by", sa.Text, comment="NULL if it was dropped without a replacement"),
        comment="transactions that left a source's mempool without a block",
    )
    op.create_index("ix_removals_removed_at", "removals", ["removed_at"])
    op.create_table(
        "feed_sources",
        sa.Column("source", sa.Text, primary_key=True),
        sa.Column("followed_since", _time, nullable=False),
        sa.Column("heard_at", _time, nullable=False, comment="all that it told until then is landed"),
        sa.Column("noted_at", _time, nullable=False, comment="until when it was followed"),
        sa.Column("connected", sa.Boolean, nullable=False),
        sa.Column("text", sa.Text, nullable=False, comment="what it says of itself"),
        sa.Column("min_fee_rate", sa.Float(53), nullable=False, comment="sat/vB, below which it relays nothing"),
        sa.Column(
            "data_carrier_bytes", sa.BIGINT, nullable=False, comment="of OP_RETURN, above which it relays nothing"
        ),
    )
    op.execute(
        "INSERT INTO feed_sources"
        " SELECT 'blockchain.info', min(seen_at), max(seen_at), max(seen_at), true, 'connected', 1, 83"
        " FROM transactions WHERE source = 'feed' HAVING count(*) > 0"
    )
    op.create_table(
        "block_completeness",
        sa.Column("block_hash", sa.Text, primary_key=True),
        sa.Column("source", sa.Text, primary_key=True),
        sa.Column("mined_count", sa.Integer, nullable=False, comment="first seen since the source is followed"),
        sa.Column("seen_before_count", sa.Integer, nullable=False, comment="those that it told before the block"),
        sa.Column("below_relay_fee", sa.Integer, nullable=False, comment="not told: below its least fee rate"),
        sa.Column("above_data_carrier", sa.Integer, nullable=False, comment="not told: more data than it relays"),
    )
    op.add_column("feed_gaps", sa.Column("source", sa.Text, nullable=False, server_default="blockchain.info"))
    op.add_column(
        "feed_gaps",
        sa.Column("tip", sa.Text, comment="highest block of the source when its mempool was read at the end"),
    )
    op.alter_column(
        "feed_gaps",
        "recovered",
        comment="transactions that came back",
        existing_comment="transactions landed from blocks",
    )
    op.alter_column(
        "transactions", "inputs", comment="[{addr, value, type, n, txid, height, coinbase}] of the outputs spent"
    )
    op.drop_index("ix_feed_gaps_started_at", "feed_gaps")
    op.create_index("ix_feed_gaps_started_at", "feed_gaps", ["started_at"])
    op.create_unique_constraint("feed_gaps_source_started_at_key", "feed_gaps", ["source", "started_at"])
    op.execute(UNHEARD)
    op.add_column(
        "blocks",
        sa.Column("removed_at", _time, comment="when a source said that it left the chain; NULL if it came back"),
    )
    for name in ("input_age_max_blocks", "coin_days_destroyed"):
        unknown = sa.Column(name, sa.Float(53), nullable=False, server_default=sa.text("'NaN'"))
        op.add_column("transaction_features", unknown)
        op.alter_column("transaction_features", name, server_default=None)


def downgrade() -> None:
    """Drop what the sources told beyond the transactions themselves."""
    for name in ("input_age_max_blocks", "coin_days_destroyed"):
        op.drop_column("transaction_features", name)
    op.drop_column("blocks", "removed_at")
    op.drop_constraint("feed_gaps_source_started_at_key", "feed_gaps")
    op.execute("DELETE FROM feed_gaps WHERE source <> 'blockchain.info'")
    op.drop_index("ix_feed_gaps_started_at", "feed_gaps")
    op.create_index("ix_feed_gaps_started_at", "feed_gaps", ["started_at"], unique=True)
    op.alter_column("feed_gaps", "recovered", comment="transactions landed from blocks")
    op.alter_column("transactions", "inputs", comment="[{addr, value, type, n}] of the outputs spent")
    op.execute("DROP FUNCTION unheard")
    op.drop_column("feed_gaps", "tip")
    op.drop_column("feed_gaps", "source")
    for table in ("block_completeness", "feed_sources", "removals", "contested_outpoints", "spends", "sightings"):
        op.drop_table(table)
    op.drop_column("transactions", "tip_height")
