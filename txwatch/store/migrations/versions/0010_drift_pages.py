"""A drift report whose page is in S3 has none in the database."""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.alter_column("drift_reports", "html", nullable=True, comment=PAGE, existing_comment=WHOLE_PAGE)


def downgrade() -> None:
    op.execute("DELETE FROM drift_reports WHERE html IS NULL")
    op.alter_column("drift_reports", "html", nullable=False, comment=WHOLE_PAGE, existing_comment=PAGE)


WHOLE_PAGE = "the report for people, one page without links"
PAGE = "the report for people, one page without links; NULL if it is in S3"
