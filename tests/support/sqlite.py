"""SQLite databases without migrations: only the first of a test process is migrated."""

import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import sqlalchemy as sa

MIGRATION = "dspex.operations.storage.migration"
NAMES = "FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'"


class SchemaCopy:
    """Takes the place of migrations: an empty SQLite database gets the schema of the first one.

    Everything else is migrated: databases with a schema, other revisions, PostgreSQL.
    """

    def __init__(self) -> None:
        from dspex.operations.storage import migration

        self._module, self.migrate = migration, migration._move
        self._statements: list[str] = []

    def __call__(self, connection: "sa.Connection", current: str, to: str) -> None:
        head = self._module.HEAD
        is_new = connection.dialect.name == "sqlite" and (current, to) == ("base", head)
        if not is_new or connection.exec_driver_sql(f"SELECT 1 {NAMES}").first() is not None:
            self.migrate(connection, current, to)
        elif self._statements:
            for statement in self._statements:
                connection.exec_driver_sql(statement)
            connection.exec_driver_sql("INSERT INTO alembic_version VALUES (?)", (head,))
        else:
            self.migrate(connection, current, to)
            rows = connection.exec_driver_sql(f"SELECT sql {NAMES} AND sql IS NOT NULL")
            self._statements = [row[0] for row in rows]


def copy_schemas() -> None:
    """Copy schemas from now on, once a test has loaded the storage."""
    module = sys.modules.get(MIGRATION)
    if module is not None and not isinstance(module._move, SchemaCopy):
        module._move = SchemaCopy()  # type: ignore[attr-defined]


@pytest.fixture
def real_migrations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every database of this test is migrated."""
    from dspex.operations.storage import migration

    if isinstance(migration._move, SchemaCopy):
        monkeypatch.setattr(migration, "_move", migration._move.migrate)
