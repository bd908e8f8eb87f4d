"""Executions in one state, newest first.

The failed ones are found without looking at all others.
"""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Widen the index of states."""
    op.drop_index("ix_executions_status", "executions")
    op.create_index(
        "ix_executions_status_workspace_id", "executions", ["status", "workspace", "id"]
    )


def downgrade() -> None:
    """Narrow it."""
    op.drop_index("ix_executions_status_workspace_id", "executions")
    op.create_index("ix_executions_status", "executions", ["status"])
