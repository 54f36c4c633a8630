"""For looking at the system: health checks, drift reports, indexes of what is listed, and notifications."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_TIME = postgresql.TIMESTAMP(timezone=True)
_NOTIFYING = ("transactions", "transaction_scores", "alerts", "alert_deliveries")


def upgrade() -> None:
    op.create_table(
        "health_checks",
        sa.Column("id", sa.BIGINT(), sa.Identity(), primary_key=True),
        sa.Column("checked_at", _TIME, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.CheckConstraint("state IN ('well', 'wrong', 'unknown')", name="state_is_known"),
    )
    op.create_index("ix_health_checks_checked_at", "health_checks", ["checked_at"])
    op.create_index("ix_health_checks_name_checked_at", "health_checks", ["name", "checked_at"])
    op.create_table(
        "drift_reports",
        sa.Column("id", sa.BIGINT(), sa.Identity(), primary_key=True),
        sa.Column("computed_at", _TIME, nullable=False),
        sa.Column("model_version", sa.Text(), nullable=False, comment="whose training sample is the reference"),
        sa.Column("seen_from", _TIME, nullable=False, comment="of the traffic compared with it"),
        sa.Column("seen_to", _TIME, nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("share", sa.Float(53), nullable=False, comment="of the watched features that have drifted, 0 to 1"),
        sa.Column("drifted", sa.Boolean(), nullable=False),
        sa.Column(
            "features",
            postgresql.JSONB(),
            nullable=False,
            comment="[{feature, distance, limit}], furthest beyond its limit first",
        ),
        sa.Column("html", sa.Text(), nullable=False, comment="the report for people, one page without links"),
    )
    op.create_index("ix_drift_reports_computed_at", "drift_reports", ["computed_at"])
    op.create_index(
        "ix_transaction_scores_unusual",
        "transaction_scores",
        ["seen_at", "txid"],
        postgresql_where=sa.text("is_anomaly"),
    )
    op.create_index("ix_transaction_scores_scored_at", "transaction_scores", ["scored_at"], postgresql_using="brin")
    # By statement, not by row, and without the rows: a batch that lands sends one short notification, equal ones of a
    # database transaction are one, and a listener that missed some reads on from where it was.
    op.execute(
        "CREATE FUNCTION notify_txwatch() RETURNS trigger LANGUAGE plpgsql AS"
        " $$BEGIN PERFORM pg_notify('txwatch', TG_TABLE_NAME); RETURN NULL; END$$"
    )
    for table in _NOTIFYING:
        op.execute(
            f"CREATE TRIGGER notify_txwatch AFTER INSERT OR UPDATE ON {table}"
            " FOR EACH STATEMENT EXECUTE FUNCTION notify_txwatch()"
        )


def downgrade() -> None:
    for table in _NOTIFYING:
        op.execute(f"DROP TRIGGER notify_txwatch ON {table}")
    op.execute("DROP FUNCTION notify_txwatch()")
    op.drop_index("ix_transaction_scores_scored_at", "transaction_scores")
    op.drop_index("ix_transaction_scores_unusual", "transaction_scores")
    op.drop_table("drift_reports")
    op.drop_table("health_checks")
