"""The tables of what the sources told: transactions, sightings, blocks, gaps, the worker's lease, and archived days.

Amounts are satoshi in BIGINT, times are timestamptz in UTC.
"""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import BIGINT, JSONB, TIMESTAMP

metadata = sa.MetaData()

_time = TIMESTAMP(timezone=True)

transactions = sa.Table(
    "transactions",
    metadata,
    sa.Column("txid", sa.Text, primary_key=True, comment="hex, as explorers show it"),
    sa.Column(
        "seen_at", _time, nullable=False, index=True, comment="when the first source told of it; decides its window"
    ),
    sa.Column("feed_time", _time, comment="as the source gives it, NULL where it gives none"),
    sa.Column("value_sat", BIGINT, nullable=False, comment="sum of the outputs"),
    sa.Column("input_sat", BIGINT, comment="NULL when any spent output is unknown"),
    sa.Column("fee_sat", BIGINT, comment="NULL when any spent output is unknown, never 0 for that"),
    sa.Column("vsize", sa.Integer, nullable=False, comment="vB: weight / 4, rounded up (BIP 141)"),
    sa.Column("weight", sa.Integer, nullable=False, comment="weight units (BIP 141)"),
    sa.Column("size", sa.Integer, nullable=False, comment="bytes with witness"),
    sa.Column("input_count", sa.Integer, nullable=False, comment="inputs"),
    sa.Column("output_count", sa.Integer, nullable=False, comment="outputs"),
    sa.Column("rbf", sa.Boolean, nullable=False, comment="signals replaceability (BIP 125)"),
    sa.Column("version", BIGINT, nullable=False, comment="of the transaction"),
    sa.Column("lock_time", BIGINT, nullable=False, comment="block height below 500,000,000, else Unix time"),
    sa.Column(
        "inputs", JSONB, nullable=False, comment="[{addr, value, type, n, txid, height, coinbase}] of the outputs spent"
    ),
    sa.Column("outputs", JSONB, nullable=False, comment="[{addr, value, type, n}]"),
    sa.Column("source", sa.Text, nullable=False, comment="feed, bulk or block"),
    sa.Column("tip_height", sa.Integer, comment="of the chain when it was seen; NULL where no source tells"),
    sa.Column(
        "landed_at", _time, nullable=False, server_default=sa.func.clock_timestamp(), comment="when the row was written"
    ),
    sa.CheckConstraint("source IN ('feed', 'bulk', 'block')", name="source_is_known"),
)

sightings = sa.Table(
    "sightings",
    metadata,
    sa.Column("txid", sa.Text, primary_key=True),
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("seen_at", _time, nullable=False),
    sa.Index("ix_sightings_seen_at", "seen_at", postgresql_using="brin"),
    comment="which source told of a transaction, and when first",
)

spends = sa.Table(
    "spends",
    metadata,
    sa.Column("prev_txid", sa.Text, primary_key=True),
    sa.Column("vout", BIGINT, primary_key=True),
    sa.Column("txid", sa.Text, primary_key=True, comment="spends that output; several do where they conflict"),
    sa.Column("seen_at", _time, nullable=False),
    sa.Index("ix_spends_seen_at", "seen_at", postgresql_using="brin"),
    comment="which coins a transaction spends, where its source tells which transaction made them",
)

contested_outpoints = sa.Table(
    "contested_outpoints",
    metadata,
    sa.Column("prev_txid", sa.Text, primary_key=True),
    sa.Column("vout", BIGINT, primary_key=True),
    sa.Column("seen_at", _time, nullable=False, index=True, comment="when the newest of its spenders was seen"),
    comment="coins that several transactions spend",
)

removals = sa.Table(
    "removals",
    metadata,
    sa.Column("txid", sa.Text, primary_key=True),
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("removed_at", _time, primary_key=True, index=True),
    sa.Column("replaced_by", sa.Text, comment="NULL if it was dropped without a replacement"),
    comment="transactions that left a source's mempool without a block",
)

feed_sources = sa.Table(
    "feed_sources",
    metadata,
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("followed_since", _time, nullable=False),
    sa.Column("heard_at", _time, nullable=False, comment="all that it told until then is landed"),
    sa.Column("noted_at", _time, nullable=False, comment="until when it was followed"),
    sa.Column("connected", sa.Boolean, nullable=False),
    sa.Column("text", sa.Text, nullable=False, comment="what it says of itself"),
    sa.Column("min_fee_rate", sa.Float(53), nullable=False, comment="sat/vB, below which it relays nothing"),
    sa.Column("data_carrier_bytes", BIGINT, nullable=False, comment="of OP_RETURN, above which it relays nothing"),
    sa.Column("network", sa.Text, nullable=False, server_default="main", comment="by Bitcoin Core's name"),
)

block_completeness = sa.Table(
    "block_completeness",
    metadata,
    sa.Column("block_hash", sa.Text, primary_key=True),
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("mined_count", sa.Integer, nullable=False, comment="first seen since the source is followed"),
    sa.Column("seen_before_count", sa.Integer, nullable=False, comment="those that it told before the block"),
    sa.Column("below_relay_fee", sa.Integer, nullable=False, comment="not told: below its least fee rate"),
    sa.Column("above_data_carrier", sa.Integer, nullable=False, comment="not told: more data than it relays"),
)

blocks = sa.Table(
    "blocks",
    metadata,
    sa.Column("hash", sa.Text, primary_key=True, comment="the key, for a chain split has two blocks of one height"),
    sa.Column("height", sa.Integer, nullable=False, index=True, comment="in the chain"),
    sa.Column("block_time", _time, nullable=False, comment="as its miner says"),
    sa.Column("seen_at", _time, nullable=False, comment="when it was announced, else its own time"),
    sa.Column("announced", sa.Boolean, nullable=False, server_default=sa.true(), comment="by the feed"),
    sa.Column("tx_count", sa.Integer, nullable=False, comment="transactions that it confirms"),
    sa.Column("prev_hash", sa.Text, comment="NULL until its contents were fetched"),
    sa.Column("stale", sa.Boolean, nullable=False, server_default=sa.false(), comment="lost a chain split"),
    sa.Column("removed_at", _time, comment="when a source said that it left the chain; NULL if it came back"),
    sa.Column("fetched_at", _time, comment="when its contents were last fetched"),
    sa.Column("mined_count", sa.Integer, comment="its transactions first seen since the feed is followed"),
    sa.Column("seen_before_count", sa.Integer, comment="those of them that came by the feed before the block"),
)

confirmations = sa.Table(
    "confirmations",
    metadata,
    sa.Column("txid", sa.Text, primary_key=True),
    sa.Column("block_hash", sa.Text, primary_key=True, index=True),
    comment="which blocks hold a transaction; the one that is not stale confirms it",
)

late_windows = sa.Table(
    "late_windows",
    metadata,
    sa.Column("id", BIGINT, sa.Identity(), primary_key=True),
    sa.Column("window_start", _time, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("noted_at", _time, nullable=False, server_default=sa.func.now()),
    comment="windows in which something landed after they may have been sealed, until they are reported again",
)

feed_gaps = sa.Table(
    "feed_gaps",
    metadata,
    sa.Column("id", BIGINT, sa.Identity(), primary_key=True),
    sa.Column("source", sa.Text, nullable=False, server_default="blockchain.info"),
    sa.Column("started_at", _time, nullable=False, index=True),
    sa.Column("ended_at", _time, comment="NULL while the gap lasts"),
    sa.Column("cause", sa.Text, nullable=False),
    sa.Column("ending", sa.Text, comment="how it ended"),
    sa.Column("state", sa.Text, nullable=False, server_default="open"),
    sa.Column("recovered", BIGINT, nullable=False, server_default="0", comment="transactions that came back"),
    sa.Column("tip", sa.Text, comment="highest block of the source when its mempool was read at the end"),
    sa.UniqueConstraint("source", "started_at"),
    sa.CheckConstraint("state IN ('open', 'ended', 'recovered', 'lost')", name="state_is_known"),
)

gap_blocks = sa.Table(
    "gap_blocks",
    metadata,
    sa.Column("gap_id", BIGINT, sa.ForeignKey("feed_gaps.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("block_hash", sa.Text, primary_key=True),
    comment="blocks that were searched for what a gap misses, until the gap is settled",
)

ingest_lease = sa.Table(
    "ingest_lease",
    metadata,
    sa.Column("id", sa.SmallInteger, primary_key=True, server_default="1"),
    sa.Column("epoch", BIGINT, nullable=False, comment="grows with every holder; the highest one lands"),
    sa.Column("holder", sa.Text, nullable=False),
    sa.Column("acquired_at", _time, nullable=False),
    sa.Column("heartbeat_at", _time, nullable=False),
    sa.Column("expires_at", _time, comment="when the holder's shift ends; NULL in the foreground"),
    sa.Column("released_at", _time),
    sa.Column("committed_through", _time, comment="all that was seen before this moment is committed"),
    sa.Column("heard_at", _time, comment="when a new transaction was landed last"),
    sa.Column("received", BIGINT, nullable=False, server_default="0", comment="messages over all epochs"),
    sa.Column("duplicates", BIGINT, nullable=False, server_default="0"),
    sa.Column("ignored", BIGINT, nullable=False, server_default="0", comment="operations not used here"),
    sa.CheckConstraint("id = 1", name="one_row"),
)

history_start = sa.Table(
    "history_start",
    metadata,
    sa.Column("id", sa.SmallInteger, primary_key=True, server_default="1"),
    sa.Column("first_window", _time, nullable=False, comment="the first that is a partition; moves with the retention"),
    sa.Column("earliest_window", _time, nullable=False, comment="the first ever; the archive begins with its day"),
    sa.CheckConstraint("id = 1", name="one_row"),
)

usd_prices = sa.Table(
    "usd_prices",
    metadata,
    sa.Column("noted_at", _time, primary_key=True, comment="from when on it is used"),
    sa.Column("told_at", _time, nullable=False, comment="when it held, by its source"),
    sa.Column("usd", sa.Float(53), nullable=False, comment="for one bitcoin"),
    sa.Column("source", sa.Text, nullable=False),
    sa.CheckConstraint("usd > 0 AND usd < 'Infinity'", name="usd_is_a_price"),
    comment="what a bitcoin was worth, at most one row in five minutes",
)

quarantined_messages = sa.Table(
    "quarantined_messages",
    metadata,
    sa.Column("id", BIGINT, sa.Identity(), primary_key=True),
    sa.Column("received_at", _time, nullable=False, index=True),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("size", sa.Integer, nullable=False, comment="bytes of the whole message"),
    sa.Column("body", sa.LargeBinary, nullable=False, comment="its first 64 KiB"),
)

archived_days = sa.Table(
    "archived_days",
    metadata,
    sa.Column("dataset", sa.Text, primary_key=True, comment="transactions, features or scores"),
    sa.Column("day", sa.Date, primary_key=True, comment="UTC, by seen_at"),
    sa.Column("changes", BIGINT, nullable=False, server_default="0", comment="times that the day was written into"),
    sa.Column("archived_changes", BIGINT, comment="those of them that the archive has; NULL without a file"),
    sa.Column("file", sa.Text, comment="its name in the archive"),
    sa.Column("bytes", BIGINT),
    sa.Column("sha256", sa.Text, comment="of the file"),
    sa.Column("format", sa.Integer, comment="version of the file's columns"),
    sa.Column("rows", BIGINT, comment="of the file"),
    sa.Column("checksum", sa.Text, comment="of the file's rows, in any order"),
    sa.Column("stored_rows", BIGINT, comment="of the database when it was archived"),
    sa.Column("stored_checksum", sa.Text, comment="of those rows"),
    sa.Column("archived_at", _time),
    sa.Column("checked_at", _time, comment="when the whole file was last read and found sound"),
    sa.Column("broken", sa.Text, comment="what is wrong with the file; NULL while nothing is"),
    sa.Column("dropped_at", _time, comment="when the database gave its rows up"),
    sa.Column("removed_at", _time, comment="when the archive gave the day up; its file goes a day later"),
    comment="which days the archive has, and of what they were made",
)
