"""Conversations, and the executions that belong to them."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
_JSON = sa.JSON(none_as_null=True)
_TIME = sa.DateTime(timezone=True)


def _common(table: str) -> list[sa.schema.SchemaItem]:
    return [
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("workspace", sa.Text(), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("updated_at", _TIME, nullable=False),
        sa.Column("lock_version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=f"pk_{table}"),
    ]


def upgrade() -> None:
    """Make the tables; no execution is in a session yet."""
    op.create_table(
        "sessions",
        *_common("sessions"),
        sa.Column("ttl", sa.Float(), nullable=True),
        sa.Column("summary", sa.Text(), nullable=False),
        sa.Column("turn_count", sa.Integer(), nullable=False),
        sa.Column("expires_at", _TIME, nullable=True),
    )
    op.create_index("ix_sessions_workspace_id", "sessions", ["workspace", "id"])
    op.create_index("ix_sessions_expires_at", "sessions", ["expires_at"])
    op.create_table(
        "session_turns",
        *_common("session_turns"),
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("execution_id", sa.Uuid(), nullable=True),
        sa.Column("inputs", _JSON, nullable=False),
        sa.Column("outputs", _JSON, nullable=False),
        sa.ForeignKeyConstraint(
            ["session_id"], ["sessions.id"], name="fk_session_turns_session_id"
        ),
    )
    op.create_index("ix_session_turns_session_id_id", "session_turns", ["session_id", "id"])
    op.create_index("ix_session_turns_execution_id", "session_turns", ["execution_id"])
    op.add_column("executions", sa.Column("session_id", sa.Uuid(), nullable=True))


def downgrade() -> None:
    """Drop them."""
    op.drop_column("executions", "session_id")
    op.drop_table("session_turns")
    op.drop_table("sessions")
