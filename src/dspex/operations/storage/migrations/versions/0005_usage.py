"""What each workspace has stored, and how much it may store."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid5

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
_NAMESPACE = UUID("5d1f3c9e-0a58-4b53-9d58-6f2a1c1a7c11")
_COUNTED = {
    "executions": ("inputs", "outputs", "error", "trace"),
    "datasets": ("rows",),
    "program_versions": ("definition", "assignment"),
    "programs": ("configuration", "error"),
    "signatures": ("inputs", "outputs", "definition"),
}


def upgrade() -> None:
    """Make the table and the columns, and count what is there."""
    table = op.create_table(
        "workspace_usages",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("workspace", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("lock_version", sa.Integer(), nullable=False),
        sa.Column("executions", sa.Integer(), nullable=False),
        sa.Column("stored_bytes", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_workspace_usages"),
        sa.UniqueConstraint("workspace", name="uq_workspace_usages_workspace"),
    )
    for name in ("quota_executions", "quota_mib"):
        op.add_column("workspaces", sa.Column(name, sa.Integer(), nullable=True))
    if rows := list(_rows()):
        op.bulk_insert(table, rows)


def _rows() -> Iterator[dict[str, Any]]:
    totals: dict[str, list[float]] = {}
    for name, columns in _COUNTED.items():
        table = sa.table(name, sa.column("workspace"), *map(sa.column, columns))
        counted = sa.select(table.c.workspace, sa.func.count(), sa.func.sum(_size(table, columns)))
        for workspace, count, size in op.get_bind().execute(counted.group_by(table.c.workspace)):
            total = totals.setdefault(workspace, [0, 0.0])
            total[0] += count if name == "executions" else 0
            total[1] += float(size or 0)
    now = datetime.now(UTC)  # noqa: TID251  # a migration has no clock
    for workspace, (executions, size) in totals.items():
        yield {
            "id": uuid5(_NAMESPACE, workspace),
            "workspace": workspace,
            "created_at": now,
            "updated_at": now,
            "lock_version": 0,
            "executions": executions,
            "stored_bytes": size,
        }


def _size(table: Any, columns: tuple[str, ...]) -> Any:
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    total: Any = sa.literal(0)
    for name in columns:
        text = sa.cast(table.c[name], sa.Text)
        length = (
            sa.func.length(sa.cast(text, sa.LargeBinary))
            if is_sqlite
            else sa.func.octet_length(text)
        )
        total += sa.func.coalesce(length, 0)
    return total


def downgrade() -> None:
    """Drop them."""
    for name in ("quota_executions", "quota_mib"):
        op.drop_column("workspaces", name)
    op.drop_table("workspace_usages")
