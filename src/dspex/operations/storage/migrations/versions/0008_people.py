"""Executions that wait for people: their questions, and the results that they have so far."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
_JSON = sa.JSON(none_as_null=True)
_TIME = sa.DateTime(timezone=True)


def _columns(table: str) -> list[sa.schema.SchemaItem]:
    return [
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("workspace", sa.Text(), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("updated_at", _TIME, nullable=False),
        sa.Column("lock_version", sa.Integer(), nullable=False),
        sa.Column("execution_id", sa.Uuid(), nullable=True),
        sa.Column("program_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=f"pk_{table}"),
        sa.ForeignKeyConstraint(["program_id"], ["programs.id"], name=f"fk_{table}_program_id"),
    ]


def upgrade() -> None:
    """Add the columns and the tables; no execution waits yet."""
    for name in ("question_count", "restarts"):
        column = sa.Column(name, sa.Integer(), nullable=False, server_default="0")
        op.add_column("executions", column)
    op.add_column("executions", sa.Column("waiting_since", _TIME, nullable=True))
    op.create_table(
        "questions",
        *_columns("questions"),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("inputs", _JSON, nullable=False),
        sa.Column("signature", _JSON, nullable=False),
        sa.Column("answer", _JSON, nullable=True),
        sa.Column("answered_by", sa.Text(), nullable=True),
        sa.Column("answered_at", _TIME, nullable=True),
        sa.Column("expires_at", _TIME, nullable=True),
    )
    op.create_table(
        "execution_entries",
        *_columns("execution_entries"),
        sa.Column("value", _JSON, nullable=False),
    )
    for table in ("questions", "execution_entries"):
        op.create_index(f"ix_{table}_execution_id", table, ["execution_id"])
        op.create_index(f"ix_{table}_program_id_id", table, ["program_id", "id"])
    op.create_index("ix_questions_status_workspace_id", "questions", ["status", "workspace", "id"])


def downgrade() -> None:
    """Drop them; what waits is interrupted."""
    op.drop_table("execution_entries")
    op.drop_table("questions")
    op.execute(
        "UPDATE executions SET status = 'interrupted' WHERE status IN ('waiting', 'pending')"
    )
    for name in ("waiting_since", "restarts", "question_count"):
        op.drop_column("executions", name)
