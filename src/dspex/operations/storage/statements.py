"""The SQL of one resource, built once for each shape of a query and then cached."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from operator import attrgetter
from typing import Any, Generic, TypeVar

from dspex.errors import InvalidError, StorageError
from dspex.operations.framework.attribute_kinds import ATTRIBUTE_KINDS
from dspex.operations.framework.resource import Attribute, Resource
from dspex.operations.framework.store import Match, Query, Sort
from dspex.operations.storage.column_types import Codec, column_type
from dspex.operations.storage.values import Conversion

E = TypeVar("E")


@dataclass(frozen=True, slots=True)
class Dialect:
    """What two databases write differently.

    That is the n-th parameter, equality that NULL has too, arrays, and the values. `by_code_point`
    follows a text that is ordered, `place_of` finds a text in another one, from 1 on.
    """

    codec: Codec
    parameter: Callable[[int], str]
    equals: str
    has_arrays: bool
    by_code_point: str
    place_of: str


@dataclass(frozen=True, slots=True)
class Statement:
    """Some SQL and its parameters."""

    sql: str
    parameters: tuple[Any, ...]


class Statements(Generic[E]):
    """The statements of one resource in one dialect."""

    def __init__(self, resource: Resource[E], dialect: Dialect, *, place: int = 0) -> None:
        """Take what they are about.

        `place` is that of the resource in its domain: it refers to none of a later one.
        """
        self.resource = resource
        self.place = place
        self.table = quoted(resource.plural)
        self.kinds = {attribute.name: attribute.kind for attribute in resource.attributes}
        self.names = tuple(self.kinds)
        self._nullable = {part.name for part in resource.attributes if part.is_nullable}
        self.times = tuple(name for name, kind in self.kinds.items() if kind == "time")
        self._dialect = dialect
        codec = dialect.codec
        self._encoders = {
            name: encoder
            for name, kind in self.kinds.items()
            if (encoder := codec.encode.get(kind))
        }
        self._row_encoders = _positions(resource.attributes, codec.encode)
        self._values: Callable[[object], tuple[Any, ...]] = attrgetter(*self.names)
        self._decoders = _positions(resource.attributes, codec.decode)
        self._columns = ", ".join(map(quoted, self.names))
        self._entity: Any = resource.entity
        self._long = tuple(n for n, kind in enumerate(self.kinds.values()) if kind in _LONG)
        self._key = self.names.index("id")
        self.insert = self._insert()
        self.update = lru_cache(maxsize=64)(self._update)
        self._select = lru_cache(maxsize=256)(self._write_select)
        self._weighed = lru_cache(maxsize=256)(self._write_weighed)
        self._without = lru_cache(maxsize=64)(self._write_columns)

    def encoded(self, name: str, value: Any) -> Any:
        """Return one attribute as the driver takes it.

        Raises:
            ValueError: it cannot be stored.
            TypeError: it cannot be stored.
        """
        encode = self._encoders.get(name)
        return value if value is None or encode is None else encode(value)

    def row(self, entity: object) -> list[Any]:
        """Return the parameters of `insert`."""
        values = list(self._values(entity))
        for position, encode in self._row_encoders:
            value = values[position]
            if value is not None:
                values[position] = encode(value)
        return values

    def entity(self, row: Any) -> E:
        """Return the entity of a row."""
        values = list(row)
        for position, decode in self._decoders:
            value = values[position]
            if value is not None:
                values[position] = decode(value)
        entity: E = self._entity(**dict(zip(self.names, values, strict=True)))
        return entity

    def select(self, query: Query) -> Statement:
        """Return the statement for rows."""
        shape, parameters = self._shape(query.where)
        if query.after is not None:
            if query.after_value is not None and query.sort is not None:
                parameters.append(self._query_value(query.sort.attribute, query.after_value))
            parameters.append(self.encoded("id", query.after))
        columns = self._without(query.without) if query.without else self._columns
        page = _Page(
            query.after is not None, query.oldest_first, query.sort, query.after_value is not None
        )
        return Statement(self._select(columns, shape, page), (*parameters, query.limit))

    def weighed(self, query: Query, *, light: int) -> Statement:
        """Return the statement for rows with their sizes at the end.

        Of those larger than `light`, no long value comes. Where the database keeps values
        compressed and elsewhere, it does not even send them for that.
        """
        statement = self.select(query)
        return Statement(self._weighed(statement.sql, query.without, light), statement.parameters)

    def _write_weighed(self, sql: str, without: frozenset[str], light: int) -> str:  # kept by these
        columns = []
        for name, kind in self.kinds.items():
            column = "NULL" if name in without else quoted(name)
            is_long = kind in _LONG and name not in without
            columns.append(
                f"CASE WHEN weighed.size <= {light} THEN {column} END" if is_long else column
            )
        long = [name for name, kind in self.kinds.items() if kind in _LONG and name not in without]
        size = (
            " + ".join(f"coalesce(octet_length({quoted(name)}::text), 0)" for name in long) or "0"
        )
        selected = self._without(without) if without else self._columns
        inner = sql.replace(selected, f"{self._columns}, {size} AS size", 1)
        return f"SELECT {', '.join(columns)}, weighed.size FROM ({inner}) AS weighed"  # quoted

    def size(self, row: Any) -> int:
        """Return how long the texts and JSON values of a row are together, in characters."""
        return sum(len(value) for position in self._long if (value := row[position]) is not None)

    def key(self, row: Any) -> Any:
        """Return the id of a row as the driver gives it."""
        return row[self._key]

    def get(self, key: Mapping[str, Any]) -> Statement:
        """Return the statement for one row."""
        shape, parameters = self._shape(key)
        return Statement(self._select(self._columns, shape, None), tuple(parameters))

    def count(self, where: Mapping[str, Any]) -> Statement:
        """Return the statement for a count of rows."""
        shape, parameters = self._shape(where)
        return Statement(self._select("count(*)", shape, None), tuple(parameters))

    def status(self) -> str:
        """Return the statement that finds the state of the row with an id."""
        status = '"status"' if "status" in self.kinds else "'there'"
        return (
            f'SELECT {status} FROM {self.table} WHERE "id" = {self._dialect.parameter(1)}'  # quoted
        )

    def _query_value(self, name: str, value: Any) -> Any:
        try:
            return self.encoded(name, value)
        except (TypeError, ValueError, AttributeError, OverflowError) as error:
            raise InvalidError(
                f"{self.resource.name} cannot be looked for by {name} = {value!r}: {error}"
            ) from error

    def _shape(self, where: Mapping[str, Any]) -> "tuple[_Shape, list[Any]]":
        """Return attributes, each with its number of values or how it compares; and values.

        The number is 0 for none and -1 for an array.
        """
        shape: list[tuple[str, int | str]] = []
        parameters: list[Any] = []
        for name, value in where.items():
            if name not in self.kinds:
                raise StorageError(f"{self.resource.name} has no attribute {name!r}")
            if isinstance(value, Match):
                for comparison, operand in value.comparisons:
                    self._compare(name, (comparison, operand), shape, parameters)
            elif value is None:
                shape.append((name, 0))
            else:
                self._compare(
                    name, ("in" if isinstance(value, tuple) else "eq", value), shape, parameters
                )
        return tuple(shape), parameters

    def _compare(  # noqa: PLR0917  # what it adds to
        self,
        name: str,
        condition: tuple[str, Any],
        shape: list[tuple[str, int | str]],
        parameters: list[Any],
    ) -> None:
        comparison, value = condition
        if comparison == "is_null":
            shape.append((name, 0 if value else "is_not_null"))
        elif comparison == "in":
            members = tuple([self._query_value(name, member) for member in value])
            shape.append((name, -1 if self._dialect.has_arrays else -1 - len(members)))
            parameters.extend((members,) if self._dialect.has_arrays else members)
        else:
            shape.append((name, 1 if comparison == "eq" else comparison))
            parameters.append(self._query_value(name, value))

    def _write_columns(self, without: frozenset[str]) -> str:
        if wrong := without - {part.name for part in self.resource.attributes if part.is_nullable}:
            raise StorageError(f"{self.resource.name} cannot be read without {min(wrong)!r}")
        return ", ".join("NULL" if name in without else quoted(name) for name in self.names)

    def _write_select(self, columns: str, shape: "_Shape", page: "_Page | None") -> str:
        parts, number = [], 0
        for name, size in shape:
            marks = [self._dialect.parameter(number + n + 1) for n in range(self._marks(size))]
            parts.append(self._condition(name, size, marks))
            number += len(marks)
        if page is not None and page.is_continued:
            marks = [
                self._dialect.parameter(number + n + 1)
                for n in range(2 if page.sort and page.has_value else 1)
            ]
            parts.append(self._beyond(page, marks))
            number += len(marks)
        where = f" WHERE {' AND '.join(parts)}" if parts else ""
        sql = f"SELECT {columns} FROM {self.table}{where}"  # names are those of classes, and quoted
        if page is None:
            return sql
        return f"{sql} ORDER BY {self._order(page)} LIMIT {self._dialect.parameter(number + 1)}"

    def _order(self, page: "_Page") -> str:
        # Ids are UUIDs of version 7: their order is that of creation, and they are their own
        # cursor.
        if page.sort is None:
            return '"id"' if page.oldest_first else '"id" DESC'
        way = " DESC" if page.sort.is_descending else ""
        last = " NULLS LAST" if page.sort.attribute in self._nullable else ""
        return f'{self._order_key(page.sort.attribute)}{way}{last}, "id"{way}'

    def _beyond(self, page: "_Page", marks: list[str]) -> str:
        if page.sort is None:
            return f'"id" {">" if page.oldest_first else "<"} {marks[0]}'
        name, sign = page.sort.attribute, "<" if page.sort.is_descending else ">"
        if not page.has_value:
            return f'{quoted(name)} IS NULL AND "id" {sign} {marks[0]}'
        rest = f'({self._order_key(name)}, "id") {sign} ({", ".join(marks)})'
        return f"({rest} OR {quoted(name)} IS NULL)" if name in self._nullable else rest

    def _order_key(self, name: str) -> str:
        if name not in self.kinds:
            raise StorageError(f"{self.resource.name} has no attribute {name!r}")
        return quoted(name) + (self._dialect.by_code_point if self.kinds[name] == "text" else "")

    def _marks(self, size: int | str) -> int:
        if isinstance(size, str):
            return int(size != "is_not_null")
        if size >= 0:
            return size
        return 1 if self._dialect.has_arrays else -1 - size

    def _condition(self, name: str, size: int | str, marks: list[str]) -> str:
        column = quoted(name)
        if isinstance(size, str):
            return self._comparison(name, size, marks)
        if size == 0:
            return f"{column} IS NULL"
        if size == 1:
            return f"{column} = {marks[0]}"
        return (
            f"{column} = ANY({marks[0]})"
            if self._dialect.has_arrays
            else f"{column} IN ({', '.join(marks)})"
        )

    def _comparison(self, name: str, comparison: str, marks: list[str]) -> str:
        if comparison == "is_not_null":
            return f"{quoted(name)} IS NOT NULL"
        if sign := _TEXT_SIGNS.get(comparison):
            return f"{self._dialect.place_of}({quoted(name)}, {marks[0]}) {sign}"
        return f"{quoted(name)} {_SIGNS[comparison]} {marks[0]}"

    def _insert(self) -> str:
        marks = ", ".join(self._dialect.parameter(n + 1) for n in range(len(self.names)))
        return f"INSERT INTO {self.table} ({self._columns}) VALUES ({marks})"  # quoted

    def _update(
        self,
        values: tuple[str, ...],
        increments: tuple[str, ...],
        *,
        expected: tuple[str, ...],
        statuses: int,
    ) -> str:
        mark = self._dialect.parameter
        parts = [f"{quoted(name)} = {mark(n + 1)}" for n, name in enumerate(values)]
        for n, name in enumerate(increments):
            parts.append(f"{quoted(name)} = {quoted(name)} + {mark(len(values) + n + 1)}")
        number = len(values) + len(increments) + 2
        parts.append(f'"lock_version" = "lock_version" + {mark(number - 1)}')
        where = [f'"id" = {mark(number)}']
        for name in expected:
            number += 1
            where.append(f"{quoted(name)} {self._dialect.equals} {mark(number)}")
        if statuses:
            where.append(
                f'"status" IN ({", ".join(mark(number + n + 1) for n in range(statuses))})'
            )
        return f"UPDATE {self.table} SET {', '.join(parts)} WHERE {' AND '.join(where)}"  # quoted


@dataclass(frozen=True, slots=True)
class _Page:
    is_continued: bool
    oldest_first: bool
    sort: Sort | None
    has_value: bool


_Shape = tuple[tuple[str, int | str], ...]
_LONG = frozenset(kind for kind in ATTRIBUTE_KINDS if column_type(kind).is_long)
_SIGNS = {"gte": ">=", "lte": "<=", "after": ">", "before": "<"}
_TEXT_SIGNS = {"contains": "> 0", "starts_with": "= 1"}


def quoted(name: str) -> str:
    """Return an identifier as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'


def _positions(
    attributes: tuple[Attribute, ...], decode: Mapping[Any, Conversion]
) -> tuple[tuple[int, Conversion], ...]:
    return tuple((n, decode[part.kind]) for n, part in enumerate(attributes) if part.kind in decode)
