"""Trials that become versions."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Add the columns; no trial has been promoted yet."""
    op.add_column("optimization_jobs", sa.Column("trial_id", sa.Uuid(), nullable=True))
    op.add_column("trials", sa.Column("promotion_id", sa.Uuid(), nullable=True))


def downgrade() -> None:
    """Drop them."""
    op.drop_column("trials", "promotion_id")
    op.drop_column("optimization_jobs", "trial_id")
