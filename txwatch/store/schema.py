"""The tables of what is made of the feed, as SQLAlchemy Core definitions. Those of the feed are in `schema_feed`.

Amounts are satoshi in BIGINT, times are timestamptz in UTC.

`transaction_features` is rewritten by deleting and inserting a window in one transaction. `network_baseline`,
`address_activity`, `transaction_scores` and `alerts` are insert-only: what was published or sent stays as it was.
The large derived tables are partitioned by day; `txwatch.store.retention` makes and drops the partitions.
"""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, BIGINT, JSONB, TIMESTAMP

from txwatch.features.context import QUANTILES, SPANS
from txwatch.features.contract import FEATURES
from txwatch.store.schema_people import metadata as metadata

_time = TIMESTAMP(timezone=True)

network_baseline = sa.Table(
    "network_baseline",
    metadata,
    sa.Column("window_start", _time, primary_key=True, comment="the window as of which it holds"),
    sa.Column(
        "context_version",
        BIGINT,
        primary_key=True,
        comment="counts the publications of the window",
    ),
    sa.Column("publication", BIGINT, nullable=False, comment="address buckets written later are no part of it"),
    sa.Column("tx_count", sa.Integer, nullable=False, comment="of the window itself"),
    sa.Column("value_sat", sa.Numeric, nullable=False, comment="of the window itself"),
    sa.Column("kind_counts", ARRAY(sa.Integer), nullable=False, comment="by features.context.KINDS"),
    sa.Column("value_histogram", ARRAY(sa.Integer), nullable=False, comment="counts by log2 bin"),
    sa.Column("fee_rate_histogram", ARRAY(sa.Integer), nullable=False, comment="counts by log2 bin"),
    sa.Column("tx_count_1h", BIGINT, nullable=False, comment="trailing hour that ends with the window"),
    sa.Column("tx_count_24h", BIGINT, nullable=False, comment="trailing day that ends with the window"),
    sa.Column("windows_24h", sa.Integer, nullable=False, comment="windows that the trailing day really holds"),
    sa.Column("kind_counts_1h", ARRAY(BIGINT), nullable=False, comment="by features.context.KINDS"),
    sa.Column("kind_counts_24h", ARRAY(BIGINT), nullable=False, comment="by features.context.KINDS"),
    *(
        sa.Column(f"{quantile}_{what}_{span}", sa.Float(53), comment=unit)
        for span in SPANS
        for what, unit in (("value_sat", "satoshi"), ("fee_rate", "sat/vB"))
        for quantile in QUANTILES
    ),
    sa.Column("computed_at", _time, nullable=False, server_default=sa.func.now(), comment="when it was published"),
)

context_publications = sa.Sequence("context_publications", metadata=metadata)

open_publications = sa.Table(
    "open_publications",
    metadata,
    sa.Column("publication", BIGINT, primary_key=True, autoincrement=False, comment="of context_publications"),
    sa.Column("window_start", _time, nullable=False, comment="of its first window"),
    sa.Column("window_end", _time, nullable=False, comment="of its last window"),
    comment="address buckets that are being written, in several database transactions; at most one row",
)

address_activity = sa.Table(
    "address_activity",
    metadata,
    sa.Column("address", sa.Text, nullable=False, comment="as the sources write it"),
    sa.Column("window_start", _time, nullable=False, comment="the window that is summed up"),
    sa.Column("written", BIGINT, nullable=False, comment="publication that wrote it"),
    sa.Column("superseded", BIGINT, comment="publication that found it wrong, NULL while it holds"),
    sa.Column("tx_count", sa.Integer, nullable=False, comment="transactions that name it"),
    sa.Column("received_sat", BIGINT, nullable=False, comment="satoshi in outputs"),
    sa.Column("spent_sat", BIGINT, nullable=False, comment="satoshi in inputs"),
    sa.Column("first_seen_at", _time, nullable=False, comment="within the window"),
    sa.Column("last_seen_at", _time, nullable=False, comment="within the window"),
    # The only index. A key of address, window and publication, which are unique as they are written, would be three
    # times its size, and with one on the window the planner would at times read a day for each address.
    sa.Index("ix_address_activity_address", "address", postgresql_using="hash"),
    postgresql_partition_by="RANGE (window_start)",
)

address_windows = sa.Table(
    "address_windows",
    metadata,
    sa.Column("window_start", _time, primary_key=True),
    sa.Column("publication", BIGINT, nullable=False, comment="the last one that wrote address buckets of the window"),
)

transaction_scores = sa.Table(
    "transaction_scores",
    metadata,
    sa.Column("txid", sa.Text, primary_key=True, comment="of the transaction"),
    sa.Column("model_version", sa.Text, primary_key=True, comment="as MLflow counts them"),
    sa.Column("context_version", BIGINT, primary_key=True, comment="of the network_baseline that it was scored with"),
    sa.Column("seen_at", _time, nullable=False, index=True, comment="of the transaction"),
    sa.Column("lane", sa.Text, nullable=False, comment="live, window or shadow"),
    sa.Column("score", sa.Float(53), nullable=False, comment="0 to 1, higher is more unusual"),
    sa.Column("threshold", sa.Float(53), nullable=False, comment="from which on a score is an anomaly"),
    sa.Column("is_anomaly", sa.Boolean, nullable=False, comment="whether the score or a detector says so"),
    sa.Column(
        "reasons",
        JSONB,
        nullable=False,
        comment="[{kind, text, feature, value, percentile}] of the detectors and features that speak",
    ),
    sa.Column(
        "scored_at", _time, nullable=False, server_default=sa.func.clock_timestamp(), comment="when the row was written"
    ),
    sa.Column("pattern", BIGINT, comment="what it has in common with transactions that are alike"),
    sa.CheckConstraint("lane IN ('live', 'window', 'shadow')", name="lane_is_known"),
    sa.Index("ix_transaction_scores_unusual", "seen_at", "txid", postgresql_where=sa.text("is_anomaly")),
    # Scores are only ever appended, so that a block range index finds the newest ones at next to no cost.
    sa.Index("ix_transaction_scores_scored_at", "scored_at", postgresql_using="brin"),
)

scored_windows = sa.Table(
    "scored_windows",
    metadata,
    sa.Column("window_start", _time, primary_key=True),
    sa.Column("model_version", sa.Text, nullable=False),
    sa.Column("scored_at", _time, nullable=False, server_default=sa.func.clock_timestamp()),
    comment="windows that the window lane has scored, and by which model last",
)

recent_scores = sa.Table(
    "recent_scores",
    metadata,
    sa.Column("model_version", sa.Text, primary_key=True),
    sa.Column("as_of", _time, primary_key=True, comment="the window that was open then; decides two windows later"),
    sa.Column("rows", BIGINT, nullable=False, comment="scores of the hours before"),
    sa.Column("highest", ARRAY(sa.Float(53)), nullable=False, comment="of those scores, the highest first"),
    sa.Index("ix_recent_scores_as_of", "as_of"),
)

transaction_features = sa.Table(
    "transaction_features",
    metadata,
    sa.Column("seen_at", _time, nullable=False, comment="of the transaction"),
    sa.Column("txid", sa.Text, nullable=False, comment="of the transaction"),
    sa.Column("window_start", _time, nullable=False, comment="the window of seen_at"),
    sa.Column("context_version", BIGINT, nullable=False, comment="of the network_baseline that it was computed with"),
    *(sa.Column(f.name, sa.REAL if f.type == "float32" else sa.Double, nullable=False) for f in FEATURES),
    # The only index. Whoever looks for a txid knows its time from `transactions`, and who writes a window holds its
    # lock: a key of both would be a quarter of the table's size.
    sa.Index("ix_transaction_features_seen_at", "seen_at"),
    comment="a feature is NaN when unknown",
    postgresql_partition_by="RANGE (seen_at)",
)

alerts = sa.Table(
    "alerts",
    metadata,
    sa.Column("alert_key", sa.Text, primary_key=True, comment="the txid, or system:<condition>:<since>"),
    sa.Column("kinds", ARRAY(sa.Text), nullable=False, comment="most severe first"),
    sa.Column("severity", sa.Text, nullable=False, comment="low, medium, high or critical"),
    sa.Column(
        "reasons", JSONB, nullable=False, comment="[{kind, text, feature, value, percentile}], most severe first"
    ),
    sa.Column("late", sa.Boolean, nullable=False, comment="recovered or backfilled: goes to a digest"),
    sa.Column("seen_at", _time, nullable=False, index=True, comment="of the transaction, or when it was noticed"),
    sa.Column("model_version", sa.Text, comment="that scored the transaction; NULL for system alerts"),
    sa.Column("created_at", _time, nullable=False, index=True, comment="when it was raised"),
    sa.Column("usd_price", sa.Float(53), comment="of a bitcoin when it was seen; NULL if unknown"),
    sa.Column("usd_price_at", _time, comment="when that price held"),
    sa.CheckConstraint("severity IN ('low', 'medium', 'high', 'critical')", name="severity_is_known"),
)

_undelivered = sa.text("state IN ('pending', 'sending', 'uncertain', 'dead')")
alert_deliveries = sa.Table(
    "alert_deliveries",
    metadata,
    sa.Column("alert_key", sa.Text, sa.ForeignKey("alerts.alert_key", ondelete="CASCADE"), primary_key=True),
    sa.Column("channel", sa.Text, primary_key=True, comment="a chat's id at Telegram, or a channel's name"),
    sa.Column("state", sa.Text, nullable=False, server_default="pending"),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("request_id", BIGINT, comment="of the latest attempt"),
    sa.Column("sent_at", _time, comment="when the message was confirmed, or the digest that names the alert"),
    sa.Column("message_id", BIGINT, comment="of that message, within the chat"),
    sa.Column("reason", sa.Text, comment="why it is not sent, in words"),
    sa.Column("listed_in", BIGINT, comment="request of the digest that names it as uncertain"),
    sa.Column("shown_updates", sa.Integer, server_default="0", comment="that the message shows; NULL: it gets no more"),
    sa.Column("edit_unknown_at", _time, comment="when its last edit ended, if nobody knows whether it was made"),
    sa.Column("chat_id", sa.Text, sa.Computed("channel"), comment="the channel, by the name that others read"),
    sa.CheckConstraint(
        "state IN ('pending', 'sending', 'sent', 'digested', 'uncertain', 'dead')", name="state_is_known"
    ),
    sa.Index("ix_alert_deliveries_request_id", "request_id"),
    sa.Index("ix_alert_deliveries_open", "channel", "state", postgresql_where=_undelivered),
)

alert_updates = sa.Table(
    "alert_updates",
    metadata,
    sa.Column("alert_key", sa.Text, sa.ForeignKey("alerts.alert_key", ondelete="CASCADE"), primary_key=True),
    sa.Column(
        "update_key",
        sa.Text,
        primary_key=True,
        comment="kind:<kind>, confirmed:<block>, replaced:<txid>, campaign:<size>",
    ),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("created_at", _time, nullable=False, index=True),
)

alert_stream_numbers = sa.Sequence("alert_stream_numbers", metadata=metadata)

alert_stream = sa.Table(
    "alert_stream",
    metadata,
    sa.Column("id", BIGINT, sa.Identity(), primary_key=True),
    sa.Column("sequence", BIGINT, unique=True, comment="of alert_stream_numbers; NULL until it is published"),
    sa.Column("alert_key", sa.Text, sa.ForeignKey("alerts.alert_key", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("update_key", sa.Text, comment="of alert_updates; NULL for the alert itself"),
    sa.Column("queued_at", _time, nullable=False, index=True, server_default=sa.func.now()),
    sa.Index("ix_alert_stream_unpublished", "id", postgresql_where=sa.text("sequence IS NULL")),
    comment="alerts and their updates in the order in which the stream tells them",
)

followed_coins = sa.Table(
    "followed_coins",
    metadata,
    sa.Column("alert_key", sa.Text, sa.ForeignKey("alerts.alert_key", ondelete="CASCADE"), primary_key=True),
    sa.Column("txid", sa.Text, primary_key=True, index=True),
    sa.Column("vout", BIGINT, primary_key=True),
    sa.Column("hop", sa.SmallInteger, nullable=False, comment="0 for the alerted transaction's own coin"),
    sa.Column("addr", sa.Text, index=True),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("value_sat", BIGINT, nullable=False),
    sa.Column("seen_at", _time, nullable=False, index=True, comment="of the alerted transaction"),
    comment="coins that what was alerted went to, until they are spent again",
)

campaign_transactions = sa.Table(
    "campaign_transactions",
    metadata,
    sa.Column("txid", sa.Text, primary_key=True),
    sa.Column("alert_key", sa.Text, sa.ForeignKey("alerts.alert_key", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("event", sa.Text, nullable=False, comment="dust_storm, forest:<pattern>"),
    sa.Column("seen_at", _time, nullable=False, index=True),
    sa.Index("ix_campaign_transactions_event", "event", "seen_at"),
    comment="transactions that are alike, and the one alert about all of them",
)

channels = sa.Table(
    "channels",
    metadata,
    sa.Column("channel", sa.Text, primary_key=True, comment="a chat's id at Telegram, or a name"),
    sa.Column("kind", sa.Text, nullable=False, server_default="telegram"),
    sa.Column("shown_as", sa.Text, comment="where it leads, without its secrets; NULL for Telegram"),
    sa.Column("retry_at", _time, comment="nothing is sent before: it said so, or could not be reached"),
    sa.Column("failures", sa.Integer, nullable=False, server_default="0", comment="in a row"),
    sa.Column("held_until", _time, comment="muted: all but critical alerts wait, and then go into a digest"),
    sa.Column("quiet_hours", sa.Text, comment="such as 22:00-07:00 Europe/Berlin; as if muted every day"),
    sa.Column("min_severity", sa.Text, comment="alerts below it are not delivered here; NULL for all"),
    sa.Column("kinds", ARRAY(sa.Text), comment="only alerts of one of these are delivered here; NULL for all"),
    sa.Column("digest_every", sa.Interval, comment="all but critical alerts go into digests so far apart"),
    sa.Column("moved_to", sa.Text, comment="the id that Telegram gave when the group became a supergroup"),
    sa.Column("refused_since", _time, comment="it takes no messages; NULL while it does"),
    sa.Column("refusal", sa.Text, comment="why not, in words"),
    sa.Column("disabled_at", _time, comment="since then it gets no alerts; NULL while it does"),
    sa.CheckConstraint("kind IN ('telegram', 'webhook', 'apprise')", name="kind_is_known"),
)

channel_secrets = sa.Table(
    "channel_secrets",
    metadata,
    sa.Column("channel", sa.Text, sa.ForeignKey("channels.channel", ondelete="CASCADE"), primary_key=True),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("secret", sa.Text, comment="that signs what goes to a webhook; NULL for others"),
    sa.Column("former_secret", sa.Text, comment="that signs besides, while receivers change to the new one"),
    sa.Column("former_until", _time, comment="until when it does"),
    comment="what must not be shown of channels",
)

telegram_bot = sa.Table(
    "telegram_bot",
    metadata,
    sa.Column("only_one", sa.Boolean, primary_key=True, server_default=sa.true()),
    sa.Column("noted_at", _time, nullable=False),
    sa.Column("deaf_since", _time, comment="Telegram gives it no updates; NULL while it does"),
    sa.Column("reason", sa.Text, comment="why not"),
    sa.CheckConstraint("only_one", name="only_one"),
)

channel_requests = sa.Table(
    "channel_requests",
    metadata,
    sa.Column("id", BIGINT, sa.Identity(), primary_key=True),
    sa.Column("channel", sa.Text, nullable=False),
    sa.Column("purpose", sa.Text, nullable=False),
    sa.Column("started_at", _time, nullable=False, index=True),
    sa.Column("ended_at", _time, comment="NULL while it is under way"),
    sa.CheckConstraint("purpose IN ('alert', 'digest', 'edit', 'reply', 'test')", name="purpose_is_known"),
    sa.Index("ix_channel_requests_channel_started_at", "channel", "started_at"),
)

rules = sa.Table(
    "rules",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True, comment="1 for the first; each change adds one"),
    sa.Column("document", JSONB, nullable=False, comment="as it was written, without its mode"),
    sa.Column("mode", sa.Text, nullable=False),
    sa.Column("changed_at", _time, nullable=False, comment="by the database's clock; it holds from then on"),
    sa.Column("changed_by", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, comment="why txwatch itself switched it off"),
    sa.CheckConstraint("mode IN ('active', 'test', 'off')", name="mode_is_known"),
    comment="every version of every rule: rows are added and never changed",
)

rule_matches = sa.Table(
    "rule_matches",
    metadata,
    sa.Column("txid", sa.Text, primary_key=True),
    sa.Column("rule", sa.Text, primary_key=True),
    sa.Column("version", sa.Integer, nullable=False, comment="of the rule, by which it matched"),
    sa.Column("seen_at", _time, nullable=False, index=True, comment="of the transaction"),
    sa.Column("severity", sa.Text, nullable=False),
    sa.Column("outcome", sa.Text, nullable=False, comment="alert, test, or held back by the cap an hour"),
    sa.Column("alike_seconds", sa.Integer, comment="within which matches of one pattern are one alert"),
    sa.Column("reason", JSONB, nullable=False),
    sa.CheckConstraint("outcome IN ('alert', 'test', 'held')", name="outcome_is_known"),
    sa.Index("ix_rule_matches_rule_seen_at", "rule", "seen_at"),
    comment="transactions that rules matched, each once",
)

labels = sa.Table(
    "labels",
    metadata,
    sa.Column("address", sa.Text, primary_key=True),
    sa.Column("source", sa.Text, primary_key=True, comment="who says so"),
    sa.Column("entity", sa.Text, nullable=False, index=True, comment="whom it belongs to"),
    sa.Column("category", sa.Text, nullable=False, comment="exchange, mixing_service, ..., unknown"),
    sa.Column("confidence", sa.Text, nullable=False, comment="GraphSense's words for it, or unknown"),
    sa.Column("note", sa.Text, nullable=False, comment="what the source says besides"),
    sa.Column("changed_on", sa.Date, comment="by the source itself"),
    sa.Column("imported_at", _time, nullable=False, comment="when it last said something else than before"),
)

watch_list = sa.Table(
    "watch_list",
    metadata,
    sa.Column("address", sa.Text, primary_key=True),
    sa.Column("note", sa.Text, nullable=False),
    sa.Column("added_at", _time, nullable=False),
)

label_changes = sa.Table(
    "label_changes",
    metadata,
    sa.Column("id", sa.SmallInteger, primary_key=True, server_default="1"),
    sa.Column("version", BIGINT, nullable=False, comment="of labels and watch list together"),
    sa.Column("changed_at", _time, nullable=False),
    sa.CheckConstraint("id = 1", name="one_row"),
)

whale_moves = sa.Table(
    "whale_moves",
    metadata,
    sa.Column("txid", sa.Text, primary_key=True),
    sa.Column("seen_at", _time, nullable=False),
    sa.Column("moved_sat", BIGINT, nullable=False, comment="what likely changed hands"),
    sa.Column("flow", sa.Text, nullable=False),
    sa.Column("senders", ARRAY(sa.Text), nullable=False, comment="entities that paid, as far as known"),
    sa.Column("receivers", ARRAY(sa.Text), nullable=False, comment="entities that were paid"),
    sa.Column("sources", ARRAY(sa.Text), nullable=False, comment="of the labels that say so"),
    sa.Column("usd_price", sa.Float(53), comment="of a bitcoin when it was seen; NULL if unknown"),
    sa.CheckConstraint(
        "flow IN ('exchange_in', 'exchange_out', 'internal_move', 'exchange_to_exchange', 'unknown')",
        name="flow_is_known",
    ),
    sa.Index("ix_whale_moves_seen_at_txid", "seen_at", "txid"),
    sa.Index("ix_whale_moves_flow_seen_at_txid", "flow", "seen_at", "txid"),
)

health_checks = sa.Table(
    "health_checks",
    metadata,
    sa.Column("id", BIGINT, sa.Identity(), primary_key=True),
    sa.Column("checked_at", _time, nullable=False, index=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.CheckConstraint("state IN ('well', 'wrong', 'unknown')", name="state_is_known"),
    sa.Index("ix_health_checks_name_checked_at", "name", "checked_at"),
)

drift_reports = sa.Table(
    "drift_reports",
    metadata,
    sa.Column("id", BIGINT, sa.Identity(), primary_key=True, comment="as the API names it"),
    sa.Column("computed_at", _time, nullable=False, index=True, comment="when it was made"),
    sa.Column("model_version", sa.Text, nullable=False, comment="whose training sample is the reference"),
    sa.Column("seen_from", _time, nullable=False, comment="of the traffic compared with it"),
    sa.Column("seen_to", _time, nullable=False, comment="of the traffic compared with it"),
    sa.Column("rows", sa.Integer, nullable=False, comment="transactions compared"),
    sa.Column("share", sa.Float(53), nullable=False, comment="of the watched features that have drifted, 0 to 1"),
    sa.Column("drifted", sa.Boolean, nullable=False, comment="whether the traffic counts as drifted"),
    sa.Column("features", JSONB, nullable=False, comment="[{feature, distance, limit}], furthest beyond it first"),
    sa.Column("html", sa.Text, comment="the report for people, one page without links; NULL if it is in S3"),
)
