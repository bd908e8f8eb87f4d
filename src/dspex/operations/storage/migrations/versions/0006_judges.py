"""Judges of evaluations and optimizations."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_TABLES = ("evaluations", "optimization_jobs")


def upgrade() -> None:
    """Add the columns; jobs that are there have no judge."""
    for table in _TABLES:
        op.add_column(table, sa.Column("judge_version_id", sa.Uuid(), nullable=True))
        op.add_column(table, sa.Column("judge_model", sa.Text(), nullable=True))
    op.add_column("evaluations", sa.Column("judge_cost_usd", sa.Float(), nullable=True))


def downgrade() -> None:
    """Drop them."""
    op.drop_column("evaluations", "judge_cost_usd")
    for table in _TABLES:
        op.drop_column(table, "judge_model")
        op.drop_column(table, "judge_version_id")
