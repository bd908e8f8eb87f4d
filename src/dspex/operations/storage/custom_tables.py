"""Tables of resources that users add to the domain.

They are made where they are missing, and compared where they are there.
"""

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from dspex.errors import SchemaError
from dspex.operations.framework.domain import Domain
from dspex.operations.storage.database import Database
from dspex.operations.storage.tables import metadata_of


async def ensure_tables(database: Database, domain: Domain) -> None:
    """Make the tables that `domain` has beside the built-in ones.

    Several that do so at once do it once. A table that is there is never changed: its rows are the
    user's.

    Raises:
        SchemaError: a table is not what its resource says; the message says in what they differ.
        StorageError: the database cannot be read or written.
    """
    plurals = [resource.plural for resource in domain.extensions]
    if not plurals:
        return
    async with database.migrating() as connection:
        differences = await connection.run_sync(_make_or_compare, domain, plurals)
    if differences:
        raise SchemaError(
            f"the database {database.display_url!r} does not fit the resources of this domain: "
            f"{'; '.join(differences)}. Change the tables by hand (ALTER TABLE), or drop those "
            "without rows that matter: they are made again"
        )


def _make_or_compare(connection: sa.Connection, domain: Domain, plurals: list[str]) -> list[str]:
    metadata = metadata_of(domain)
    existing = set(sa.inspect(connection).get_table_names())
    metadata.create_all(
        connection, tables=[metadata.tables[name] for name in plurals if name not in existing]
    )
    return [
        text
        for name in plurals
        if name in existing
        for text in _differences(connection, metadata, name)
    ]


def _differences(connection: sa.Connection, metadata: sa.MetaData, name: str) -> Iterator[str]:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    def is_meant(
        _object: object,
        object_name: str | None,
        kind: str,
        _reflected: object,
        _other: object,
    ) -> bool:
        return kind != "table" or object_name == name

    options = {"compare_type": True, "include_object": is_meant}
    for change in compare_metadata(MigrationContext.configure(connection, opts=options), metadata):
        for part in change if isinstance(change, list) else [change]:
            yield f"table {name!r} {_difference_text(part)}"


def _difference_text(change: Any) -> str:
    match change:
        case ("add_column", _, _, column):
            return f"has no column {column.name!r} ({column.type})"
        case ("remove_column", _, _, column):
            return f"has a column {column.name!r} that the resource does not have"
        case ("modify_type", _, _, column, _, found, wanted):
            return f"has {column!r} as {found}, the resource has it as {wanted}"
        case ("modify_nullable", _, _, column, _, found, _):
            return (
                f"{'lets' if found else 'does not let'} {column!r} be empty, the resource is the "
                "other way round"
            )
        case (str(kind), made, *_):
            verb = "lacks" if kind.startswith("add") else "has beside the resource's"
            return (
                f"{verb} the {kind.partition('_')[2].replace('_', ' ')} "
                f"{getattr(made, 'name', made)}"
            )
        case _:
            return f"differs: {change!r}"
