"""Say of each column of the tables that assets write what it holds."""

from alembic import op

revision = "0026"
down_revision = "0025"

COMMENTS = {
    "transactions": {
        "txid": "hex, as explorers show it",
        "seen_at": "when the first source told of it; decides its window",
        "feed_time": "as the source gives it, NULL where it gives none",
        "value_sat": "sum of the outputs",
        "vsize": "vB: weight / 4, rounded up (BIP 141)",
        "weight": "weight units (BIP 141)",
        "size": "bytes with witness",
        "input_count": "inputs",
        "output_count": "outputs",
        "rbf": "signals replaceability (BIP 125)",
        "version": "of the transaction",
        "lock_time": "block height below 500,000,000, else Unix time",
        "landed_at": "when the row was written",
    },
    "blocks": {
        "height": "in the chain",
        "block_time": "as its miner says",
        "tx_count": "transactions that it confirms",
    },
    "network_baseline": {
        "window_start": "the window as of which it holds",
        "context_version": "counts the publications of the window",
        "tx_count_24h": "trailing day that ends with the window",
        "kind_counts_1h": "by features.context.KINDS",
        "kind_counts_24h": "by features.context.KINDS",
        "computed_at": "when it was published",
    },
    "address_activity": {
        "address": "as the sources write it",
        "window_start": "the window that is summed up",
        "tx_count": "transactions that name it",
        "received_sat": "satoshi in outputs",
        "spent_sat": "satoshi in inputs",
        "first_seen_at": "within the window",
        "last_seen_at": "within the window",
    },
    "transaction_scores": {
        "txid": "of the transaction",
        "model_version": "as MLflow counts them",
        "context_version": "of the network_baseline that it was scored with",
        "seen_at": "of the transaction",
        "threshold": "from which on a score is an anomaly",
        "is_anomaly": "whether the score or a detector says so",
        "reasons": "[{kind, text, feature, value, percentile}] of the detectors and features that speak",
        "scored_at": "when the row was written",
    },
    "transaction_features": {
        "seen_at": "of the transaction",
        "txid": "of the transaction",
        "window_start": "the window of seen_at",
        "context_version": "of the network_baseline that it was computed with",
    },
    "alerts": {
        "severity": "low, medium, high or critical",
        "reasons": "[{kind, text, feature, value, percentile}], most severe first",
        "created_at": "when it was raised",
    },
    "drift_reports": {
        "id": "as the API names it",
        "computed_at": "when it was made",
        "seen_to": "of the traffic compared with it",
        "rows": "transactions compared",
        "drifted": "whether the traffic counts as drifted",
    },
}


def upgrade() -> None:
    for table, columns in COMMENTS.items():
        for column, text in columns.items():
            op.execute(f"COMMENT ON COLUMN {table}.{column} IS '{text}'")


def downgrade() -> None:
    for table, columns in COMMENTS.items():
        for column in columns:
            op.execute(f"COMMENT ON COLUMN {table}.{column} IS NULL")
