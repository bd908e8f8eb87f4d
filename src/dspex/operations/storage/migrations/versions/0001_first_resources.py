"""Signatures, programs with their versions, executions."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def _common() -> list[sa.Column]:  # type: ignore[type-arg]
    return [
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("workspace", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("lock_version", sa.Integer(), nullable=False),
    ]


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "signatures",
        *_common(),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("inputs", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("outputs", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("instructions", sa.Text(), nullable=False),
        sa.Column("content_hash", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("definition", sa.JSON(none_as_null=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_signatures"),
        sa.UniqueConstraint(
            "workspace", "name", "version", name="uq_signatures_workspace_name_version"
        ),
    )
    op.create_table(
        "programs",
        *_common(),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("signature_id", sa.Uuid(), nullable=False),
        sa.Column("current_version_id", sa.Uuid(), nullable=True),
        sa.Column("module", sa.Text(), nullable=False),
        sa.Column("backend", sa.Text(), nullable=False),
        sa.Column("configuration", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("execution_count", sa.Integer(), nullable=False),
        sa.Column("last_executed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error", sa.JSON(none_as_null=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_programs"),
        sa.ForeignKeyConstraint(
            ["signature_id"], ["signatures.id"], name="fk_programs_signature_id"
        ),
        sa.UniqueConstraint("workspace", "name", name="uq_programs_workspace_name"),
    )
    op.create_table(
        "program_versions",
        *_common(),
        sa.Column("program_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("content_hash", sa.Text(), nullable=False),
        sa.Column("definition", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("assignment", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("parent_id", sa.Uuid(), nullable=True),
        sa.Column("made_by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_program_versions"),
        sa.ForeignKeyConstraint(
            ["program_id"], ["programs.id"], name="fk_program_versions_program_id"
        ),
        sa.UniqueConstraint("program_id", "number", name="uq_program_versions_program_id_number"),
    )
    _executions()


def _executions() -> None:
    op.create_table(
        "executions",
        *_common(),
        sa.Column("program_id", sa.Uuid(), nullable=False),
        sa.Column("program_version_id", sa.Uuid(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("backend", sa.Text(), nullable=False),
        sa.Column("inputs", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("outputs", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("error", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("usage", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("trace", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("cost_usd", sa.Float(), nullable=True),
        sa.Column("duration_ms", sa.Float(), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_executions"),
        sa.ForeignKeyConstraint(["program_id"], ["programs.id"], name="fk_executions_program_id"),
        sa.ForeignKeyConstraint(
            ["program_version_id"], ["program_versions.id"], name="fk_executions_program_version_id"
        ),
    )
    op.create_index(
        "ix_executions_program_id_created_at", "executions", ["program_id", "created_at"]
    )
    op.create_index("ix_executions_workspace_created_at", "executions", ["workspace", "created_at"])
    op.create_index("ix_executions_status", "executions", ["status"])


def downgrade() -> None:
    """Drop the tables, in the order that their references allow."""
    for table in ("executions", "program_versions", "programs", "signatures"):
        op.drop_table(table)
