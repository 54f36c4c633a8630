"""The days of the archive, and whether something was written into a day since it was archived."""

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"

COUNT = """
-- Whoever writes into a day that is archived, or is being archived, counts it in the same transaction.
CREATE FUNCTION count_archived_change() RETURNS trigger LANGUAGE plpgsql AS
$$BEGIN
    UPDATE public.archived_days SET changes = changes + 1
    WHERE dataset = TG_ARGV[0] AND day IN (SELECT (seen_at AT TIME ZONE 'UTC')::date FROM written);
    RETURN NULL;
END$$;

CREATE TRIGGER count_archived_change AFTER INSERT ON transactions
    REFERENCING NEW TABLE AS written FOR EACH STATEMENT EXECUTE FUNCTION count_archived_change('transactions');
CREATE TRIGGER count_archived_change AFTER INSERT ON transaction_features
    REFERENCING NEW TABLE AS written FOR EACH STATEMENT EXECUTE FUNCTION count_archived_change('features');
CREATE TRIGGER count_archived_change AFTER INSERT ON transaction_scores
    REFERENCING NEW TABLE AS written FOR EACH STATEMENT EXECUTE FUNCTION count_archived_change('scores');
"""


def upgrade() -> None:
    """No day is archived yet."""
    op.create_table(
        "archived_days",
        sa.Column("dataset", sa.Text, primary_key=True, comment="transactions, features or scores"),
        sa.Column("day", sa.Date, primary_key=True, comment="UTC, by seen_at"),
        sa.Column(
            "changes", sa.BIGINT, nullable=False, server_default="0", comment="times that the day was written into"
        ),
        sa.Column("archived_changes", sa.BIGINT, comment="those of them that the archive has; NULL without a file"),
        sa.Column("file", sa.Text, comment="its name in the archive"),
        sa.Column("bytes", sa.BIGINT),
        sa.Column("sha256", sa.Text, comment="of the file"),
        sa.Column("format", sa.Integer, comment="version of the file's columns"),
        sa.Column("rows", sa.BIGINT, comment="of the file"),
        sa.Column("checksum", sa.Text, comment="of the file's rows, in any order"),
        sa.Column("stored_rows", sa.BIGINT, comment="of the database when it was archived"),
        sa.Column("stored_checksum", sa.Text, comment="of those rows"),
        sa.Column("archived_at", sa.TIMESTAMP(timezone=True)),
        sa.Column(
            "checked_at", sa.TIMESTAMP(timezone=True), comment="when the whole file was last read and found sound"
        ),
        sa.Column("broken", sa.Text, comment="what is wrong with the file; NULL while nothing is"),
        sa.Column("dropped_at", sa.TIMESTAMP(timezone=True), comment="when the database gave its rows up"),
        comment="which days the archive has, and of what they were made",
    )
    op.execute(COUNT)


def downgrade() -> None:
    """Forget which days are archived; the archive itself stays, and says it."""
    for table in ("transactions", "transaction_features", "transaction_scores"):
        op.execute(f"DROP TRIGGER count_archived_change ON {table}")
    op.drop_table("archived_days")
    op.execute("DROP FUNCTION count_archived_change()")
