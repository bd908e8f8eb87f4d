"""The interface of databases for a store: rows of a statement, and groups of writes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from dspex.error_text import alternatives
from dspex.errors import ConflictError, InvalidError, NotFoundError
from dspex.operations.framework.store import Query, Update
from dspex.operations.storage.statements import Dialect, Statement, Statements
from dspex.operations.storage.write_groups import Write

UNFIT = (TypeError, ValueError, OverflowError, AttributeError, RecursionError)
"""The errors of encoding a value that no database can store."""


@dataclass(frozen=True, slots=True)
class Portion:
    """The first rows, their size, and whether they end early because of it."""

    rows: Sequence[Sequence[Any]]
    size: int
    is_cut: bool


class Driver(Protocol):
    """Connections to one database, used from one loop.

    They are opened when first needed, and again when lost. Every method raises `StorageError` if
    the database cannot be used, and `InvalidError` if a value does not fit.
    """

    dialect: Dialect

    async def rows(self, statement: Statement) -> Sequence[Sequence[Any]]:
        """Return all rows of a statement."""
        ...

    async def portion(self, statements: Statements[Any], query: Query, *, most: int) -> Portion:
        """Return the first rows that `query` describes; see `Store.page`."""
        ...

    async def apply(self, writes: Sequence[Write]) -> Sequence[Exception | None]:
        """Commit the writes, if possible in one transaction; return the error of each, or None."""
        ...

    async def check(self) -> None:
        """Return if the stored data can be read now, regardless of earlier reads."""
        ...

    async def aclose(self) -> None:
        """Close all connections."""
        ...


def refusal(change: Update, status: str | None) -> ConflictError | NotFoundError:
    """Return why an update changed nothing; `status` is the status of its row, None without one."""
    name, key = change.resource.name, str(change.id)
    if status is None:
        return NotFoundError(f"there is no {name} {key!r}")
    if status in change.statuses or not change.statuses:
        return ConflictError(f"the {name} {key!r} has changed meanwhile", status=status)
    required = alternatives(change.statuses)
    return ConflictError(
        f"the {name} {key!r} is {status}: this needs it to be {required}", status=status
    )


def unfit(error: Exception) -> InvalidError:
    """Return the error of a value that the database can never store or compare with."""
    return InvalidError(f"a value cannot be stored: {error}")


def update_statement(statements: Statements[Any], change: Update) -> Statement:
    """Return the statement of an update."""
    sql = statements.update(
        tuple(change.values),
        tuple(change.increments),
        expected=tuple(change.expected),
        statuses=len(change.statuses),
    )
    values = [statements.encoded(name, value) for name, value in change.values.items()]
    expected = [statements.encoded(name, value) for name, value in change.expected.items()]
    key = statements.encoded("id", change.id)
    return Statement(
        sql, (*values, *change.increments.values(), 1, key, *expected, *change.statuses)
    )
