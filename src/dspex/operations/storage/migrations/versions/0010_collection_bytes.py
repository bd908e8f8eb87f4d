"""Collections count in the usage of their workspaces."""

from datetime import UTC, datetime
from uuid import UUID, uuid5

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
_NAMESPACE = UUID("5d1f3c9e-0a58-4b53-9d58-6f2a1c1a7c11")
_USAGES = sa.table(
    "workspace_usages",
    sa.column("id", sa.Uuid()),
    sa.column("workspace"),
    sa.column("created_at", sa.DateTime(timezone=True)),
    sa.column("updated_at", sa.DateTime(timezone=True)),
    sa.column("lock_version"),
    sa.column("executions"),
    sa.column("stored_bytes", sa.Float()),
)
_TOTALS = (
    "SELECT workspace, sum(characters + 4.0 * chunks * coalesce(dimensions, 0)) "
    "FROM collections GROUP BY workspace"
)


def upgrade() -> None:
    """Count what is there."""
    connection, now = op.get_bind(), datetime.now(UTC)  # noqa: TID251  # a migration has no clock
    for workspace, size in connection.execute(sa.text(_TOTALS)).all():
        if not _add(connection, workspace, float(size)):
            row = {
                "id": uuid5(_NAMESPACE, workspace),
                "workspace": workspace,
                "created_at": now,
                "updated_at": now,
                "lock_version": 0,
                "executions": 0,
                "stored_bytes": float(size),
            }
            connection.execute(_USAGES.insert().values(**row))


def downgrade() -> None:
    """Forget it again."""
    connection = op.get_bind()
    for workspace, size in connection.execute(sa.text(_TOTALS)).all():
        _add(connection, workspace, -float(size))


def _add(connection: sa.Connection, workspace: str, size: float) -> bool:
    """Add to the bytes of a workspace; return whether it has a row for them."""
    change = (
        _USAGES.update()
        .where(_USAGES.c.workspace == workspace)
        .values(stored_bytes=_USAGES.c.stored_bytes + size)
    )
    return bool(connection.execute(change).rowcount)
