"""Slices, pass rates and agreement of evaluations."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Add the column; evaluations that are there have none."""
    op.add_column("evaluations", sa.Column("breakdown", sa.JSON(none_as_null=True), nullable=True))


def downgrade() -> None:
    """Drop it."""
    op.drop_column("evaluations", "breakdown")
