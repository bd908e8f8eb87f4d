"""The order in which events become certain; how long a workspace keeps executions."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
_COLUMNS = (
    "id, workspace, created_at, updated_at, lock_version, topic, subject_id, program_id, payload"
)
_KINDS = (
    "workspace TEXT NOT NULL, created_at DATETIME NOT NULL, updated_at DATETIME NOT NULL, "
    "lock_version INTEGER NOT NULL, topic TEXT NOT NULL, subject_id CHAR(32) NOT NULL, program_id "
    "CHAR(32), "
    "payload JSON NOT NULL"
)


def upgrade() -> None:
    """Give events their position, and workspaces their limits."""
    op.drop_index("ix_events_workspace_topic_id", "events")
    if op.get_context().dialect.name == "sqlite":
        # never reused, as AUTOINCREMENT has it: a cursor behind the newest event outlives that
        # event
        _made_anew(
            "position INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, id CHAR(32) NOT NULL UNIQUE, "
            f"{_KINDS}"
        )
    else:
        op.add_column(
            "events", sa.Column("position", sa.BigInteger(), nullable=False, server_default="0")
        )
        op.alter_column(
            "events", "position", server_default=sa.text("(pg_current_xact_id()::text::bigint)")
        )
    op.create_index(
        "ix_events_workspace_topic_position_id", "events", ["workspace", "topic", "position", "id"]
    )
    for name in ("keep_days", "keep_count"):
        op.add_column("workspaces", sa.Column(name, sa.Integer(), nullable=True))


def _made_anew(columns: str) -> None:
    op.drop_index("ix_events_subject_id", "events")
    op.rename_table("events", "events_before")
    op.execute(f"CREATE TABLE events ({columns})")
    op.execute(f"INSERT INTO events ({_COLUMNS}) SELECT {_COLUMNS} FROM events_before ORDER BY id")
    op.drop_table("events_before")
    op.create_index("ix_events_subject_id", "events", ["subject_id"])


def downgrade() -> None:
    """Forget the order, and the limits."""
    for name in ("keep_days", "keep_count"):
        op.drop_column("workspaces", name)
    op.drop_index("ix_events_workspace_topic_position_id", "events")
    if op.get_context().dialect.name == "sqlite":
        _made_anew(f"id CHAR(32) NOT NULL, {_KINDS}, CONSTRAINT pk_events PRIMARY KEY (id)")
    else:
        op.drop_column("events", "position")
    op.create_index("ix_events_workspace_topic_id", "events", ["workspace", "topic", "id"])
