"""Feedback on executions, and the annotation queue."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
_JSON = sa.JSON(none_as_null=True)
_TIME = sa.DateTime(timezone=True)


def _common(table: str) -> list[sa.schema.SchemaItem]:
    return [
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("workspace", sa.Text(), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("updated_at", _TIME, nullable=False),
        sa.Column("lock_version", sa.Integer(), nullable=False),
        sa.Column("execution_id", sa.Uuid(), nullable=True),
        sa.Column("program_id", sa.Uuid(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=f"pk_{table}"),
        sa.ForeignKeyConstraint(["program_id"], ["programs.id"], name=f"fk_{table}_program_id"),
    ]


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "feedbacks",
        *_common("feedbacks"),
        sa.Column("program_version_id", sa.Uuid(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("score", sa.Float(), nullable=True),
        sa.Column("label", sa.Text(), nullable=True),
        sa.Column("correction", _JSON, nullable=True),
        sa.Column("comment", sa.Text(), nullable=True),
        sa.Column("link_id", sa.Uuid(), nullable=True),
        sa.ForeignKeyConstraint(
            ["program_version_id"],
            ["program_versions.id"],
            name="fk_feedbacks_program_version_id",
        ),
        sa.UniqueConstraint("workspace", "link_id", name="uq_feedbacks_workspace_link_id"),
    )
    op.create_table(
        "annotations",
        *_common("annotations"),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("taken_by", sa.Text(), nullable=True),
        sa.Column("taken_until", _TIME, nullable=True),
        sa.Column("feedback_id", sa.Uuid(), nullable=True),
        sa.UniqueConstraint("execution_id", name="uq_annotations_execution_id"),
    )
    indexes = {
        "feedbacks": ("program_version_id",),
        "annotations": ("feedback_id",),
    }
    for table, extra in indexes.items():
        for columns in (("execution_id",), ("program_id", "id"), ("workspace", "id"), extra):
            op.create_index(f"ix_{table}_{'_'.join(columns)}", table, list(columns))
    op.create_index(
        "ix_annotations_status_workspace_id", "annotations", ["status", "workspace", "id"]
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_table("annotations")
    op.drop_table("feedbacks")
