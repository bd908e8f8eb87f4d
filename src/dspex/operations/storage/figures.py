"""The port `Figures` on any database that SQLAlchemy Core speaks."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from dspex.operations.framework.domain import Domain
from dspex.operations.framework.resource import Resource
from dspex.operations.framework.store import Measure, Pruned
from dspex.operations.storage.database import Database
from dspex.operations.storage.tables import tables_of, text_bytes

PORTION = 500
_FUNCTIONS: dict[str, Any] = {
    "count": sa.func.count,
    "sum": sa.func.sum,
    "mean": sa.func.avg,
    "max": sa.func.max,
}
_PERCENTILES = {"p50": 50, "p95": 95}


class SQLFigures:
    """Figures over the tables of the domain; see `Figures` for the promises."""

    def __init__(self, database: Database, domain: Domain) -> None:
        """Take the database, which its owner closes, and the domain whose tables it has."""
        self._database = database
        self._domain = domain
        self._tables = tables_of(domain)

    async def aggregate(
        self, resource: Resource[Any], where: Mapping[str, Any], measures: Mapping[str, Measure]
    ) -> dict[str, Any]:
        """Return each figure; see `Figures.aggregate`. One statement, which reads each row once."""
        statement = _figures(self._tables[resource.name], where, measures)
        async with self._database.reading() as connection:
            figures = (await connection.execute(statement)).mappings().one()
        return {name: figures[name] for name in measures}

    async def prune(
        self,
        resource: Resource[Any],
        where: Mapping[str, Any],
        *,
        before: UUID | None,
        keep: int | None,
        sized: tuple[str, ...] = (),
    ) -> Pruned:
        """Delete old rows; see `Figures.prune`."""
        table, total, size = self._tables[resource.name], 0, 0
        rules = []
        if before is not None:
            rules.append(table.c.id < before)
        if keep is not None:
            oldest = (
                sa.select(table.c.id)
                .where(*_equal(table, where))
                .order_by(table.c.id.desc())
                .offset(keep)
                .limit(1)
            )
            rules.append(table.c.id <= oldest.scalar_subquery())
        if not rules:
            return Pruned(0, 0)
        free = [~sa.exists().where(column == table.c.id) for column in self._references_to(table)]
        old = sa.select(
            table.c.id,
            text_bytes([table.c[name] for name in sized], is_sqlite=self._database.is_sqlite),
        ).where(*_equal(table, where), sa.or_(*rules), *free)
        query = old.order_by(table.c.id).limit(PORTION)
        while True:
            async with self._database.writing() as connection:
                portion = (await connection.execute(query)).all()
                if portion:
                    await self._delete(connection, resource, [row[0] for row in portion])
            total += len(portion)
            size += sum(row[1] for row in portion)
            if len(portion) < PORTION:
                return Pruned(total, size)

    async def _delete(
        self, connection: AsyncConnection, resource: Resource[Any], ids: list[UUID]
    ) -> None:
        """Delete rows, and empty the pointers to them."""
        for column in self._pointers_to(resource):
            change = column.table.update().where(column.in_(ids)).values({column: None})
            await connection.execute(change)
        table = self._tables[resource.name]
        await connection.execute(table.delete().where(table.c.id.in_(ids)))

    def _pointers_to(self, resource: Resource[Any]) -> list[sa.Column[Any]]:
        """Return the columns of pointers to a resource that an index finds by their value."""
        return [
            self._tables[other.name].c[attribute]
            for other in self._domain.values()
            for attribute, target in other.pointers.items()
            if target == resource.name and (attribute,) in other.indexes
        ]

    def _references_to(self, table: sa.Table) -> list[sa.Column[Any]]:
        """Return the columns whose values are ids of `table`."""
        keys = (key for candidate in self._tables.values() for key in candidate.foreign_keys)
        return [key.parent for key in keys if key.column.table is table]


def _equal(table: sa.FromClause, where: Mapping[str, Any]) -> list[sa.ColumnElement[bool]]:
    return [
        table.c[name].in_(value) if isinstance(value, tuple) else table.c[name] == value
        for name, value in where.items()
    ]


def _figures(
    table: sa.Table, where: Mapping[str, Any], measures: Mapping[str, Measure]
) -> sa.Select[Any]:
    """Return the statement.

    Rows are wide and read once: figures are made of the few values of them that they need.
    """
    values = {measure.of: _value(table, measure.of) for measure in measures.values()}
    values |= {name: table.c[name] for measure in measures.values() for name in measure.where}
    rows = (
        sa.select(*(value.label(of) for of, value in values.items()))
        .where(*_equal(table, where))
        .cte("found")
    )
    return sa.select(
        *(_figure(rows, measure).label(name) for name, measure in measures.items()), sa.literal(1)
    )


def _value(table: sa.Table, of: str) -> sa.ColumnElement[Any]:
    name, _, member = of.partition(".")
    return table.c[name][member].as_float() if member else table.c[name]


def _figure(rows: sa.CTE, measure: Measure) -> sa.ColumnElement[Any]:
    if measure.kind in _PERCENTILES:
        return _percentile(rows, measure)
    figure: sa.Function[Any] = _FUNCTIONS[measure.kind](rows.c[measure.of])
    return figure.filter(*_equal(rows, measure.where)) if measure.where else figure


def _percentile(rows: sa.CTE, measure: Measure) -> sa.ColumnElement[Any]:
    """Return the lowest value that the given percentage of all values does not exceed."""
    values = rows.alias()
    value = values.c[measure.of]
    rules = [*_equal(values, measure.where), value.is_not(None)]
    count = sa.select(sa.func.count()).select_from(values).where(*rules).scalar_subquery()
    place = sa.cast((count * _PERCENTILES[measure.kind] + 99) // 100, sa.Integer) - 1
    first = sa.case((place < 0, 0), else_=place)
    return sa.select(value).where(*rules).order_by(value).offset(first).limit(1).scalar_subquery()
