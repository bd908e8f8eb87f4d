"""Many changes as one statement of PostgreSQL: it is sent once, and happens whole or not at all."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from uuid import UUID

import msgspec

from dspex.operations.resources.ports import Insert, Update
from dspex.operations.storage.grouping import Step, Write
from dspex.operations.storage.statements import Question, Statements, quoted

_TYPES = {
    "uuid": "uuid",
    "text": "text",
    "integer": "integer",
    "number": "double precision",
    "flag": "boolean",
    "time": "timestamptz",
    "json": "json",
}
_encode = msgspec.json.Encoder().encode
_COUNT = "#"  # how many updates one row stands for; an increment is named "+attribute", so no attribute is meant


@dataclass(frozen=True, slots=True)
class _Shape:
    """Updates that one statement can make: of one resource, of the same attributes, from the same states."""

    statements: Statements[Any]
    values: tuple[str, ...]
    increments: tuple[str, ...]
    statuses: tuple[str, ...]


class Merging:
    """Collects writes for one statement that makes all of them or raises in the database.

    Parts of one statement do not see each other's changes, so a row that is changed twice in different ways, or is
    inserted and changed, needs statements of its own. Increments of one row are added up: a counter that many
    executions move on is written once.
    """

    def __init__(self) -> None:
        """Start with nothing."""
        self.writes: list[Write] = []
        self._inserts: dict[Statements[Any], list[Any]] = {}
        self._updates: dict[_Shape, dict[UUID, dict[str, Any]]] = {}
        self._touched: dict[tuple[str, UUID], _Shape | None] = {}

    def add(self, steps: Write) -> bool:
        """Take a write if it fits to those that are here; otherwise nothing of it is taken."""
        if any(isinstance(step.change, Update) and step.change.expected for step in steps):
            return False
        planned = dict(self._touched)
        for step in steps:
            place, shape = _place(step)
            if place in planned and (shape is None or shape.statuses or planned[place] != shape):
                return False
            planned[place] = shape
        for step in steps:
            self._take(step)
        self._touched = planned
        self.writes.append(steps)
        return True

    def question(self) -> Question | None:
        """Return the statement and its parameters, or None where a value can only be sent by itself."""
        parameters: list[Any] = []
        try:
            for statements, entities in self._inserts.items():
                parameters.append(_text(_checked(statements, entities)))
            for shape, rows in self._updates.items():
                parameters.append(_text(_checked_values(shape.statements, rows)))
        except (TypeError, ValueError, OverflowError, RecursionError):
            return None
        for shape, rows in self._updates.items():
            parameters.append(len(rows))
            if shape.statuses:
                parameters.append(shape.statuses)
        return Question(_sql(tuple(self._inserts), tuple(self._updates)), tuple(parameters))

    def _take(self, step: Step) -> None:
        change = step.change
        if isinstance(change, Insert):
            self._inserts.setdefault(step.statements, []).append(change.entity)
            return
        shape = _shape(step.statements, change)
        row = self._updates.setdefault(shape, {}).setdefault(change.id, {"id": change.id, _COUNT: 0})
        row |= change.values
        row[_COUNT] += 1
        for name, number in change.increments.items():
            row["+" + name] = row.get("+" + name, 0) + number


def _place(step: Step) -> tuple[tuple[str, UUID], _Shape | None]:
    change = step.change
    if isinstance(change, Insert):
        return (step.statements.table, change.entity.id), None
    return (step.statements.table, change.id), _shape(step.statements, change)


def _shape(statements: Statements[Any], change: Update) -> _Shape:
    return _Shape(statements, tuple(change.values), tuple(change.increments), change.statuses)


def _text(rows: list[Any]) -> str:
    text = _encode(rows).decode()
    if "\\u0000" in text:
        raise ValueError("PostgreSQL takes this character only in JSON that it does not look into")
    return text


def _checked(statements: Statements[Any], entities: list[Any]) -> list[Any]:
    for name in statements.times:
        for entity in entities:
            statements.encoded(name, getattr(entity, name))
    return entities


def _checked_values(statements: Statements[Any], rows: Mapping[UUID, dict[str, Any]]) -> list[Any]:
    made = list(rows.values())
    for name in statements.times:
        for row in made:
            statements.encoded(name, row.get(name))
    return made


@lru_cache(maxsize=256)
def _sql(inserts: tuple[Statements[Any], ...], updates: tuple[_Shape, ...]) -> str:
    parts, checks = [], []
    for n, statements in enumerate(inserts):
        row = f"json_populate_recordset(NULL::{statements.table}, ${n + 1})"
        columns = ", ".join(map(quoted, statements.names))
        parts.append(f"i{n} AS (INSERT INTO {statements.table} ({columns}) SELECT {columns} FROM {row})")  # noqa: S608
    number = len(inserts) + len(updates)
    for n, shape in enumerate(updates):
        number += 1
        checks.append(f"(SELECT count(*) FROM u{n}) = ${number}")  # noqa: S608
        guard = ""
        if shape.statuses:
            number += 1
            guard = f' AND r."status" = ANY(${number})'
        parts.append(f'u{n} AS ({_update(shape, len(inserts) + n + 1)}{guard} RETURNING r."id")')
    # A division by zero undoes the whole statement where an update found fewer rows than it names.
    check = f"1 / (CASE WHEN {' AND '.join(checks)} THEN 1 ELSE 0 END)" if checks else "1"
    return f"WITH {', '.join(parts)} SELECT {check}"


def _update(shape: _Shape, number: int) -> str:
    kinds = shape.statements.kinds
    columns = {"id": "uuid", _COUNT: "integer"}
    columns |= {name: _TYPES[kinds[name]] for name in shape.values}
    columns |= {"+" + name: "bigint" for name in shape.increments}
    told = ", ".join(f"{quoted(name)} {kind}" for name, kind in columns.items())
    sets = [f"{quoted(name)} = v.{quoted(name)}" for name in shape.values]
    sets += [f"{quoted(name)} = r.{quoted(name)} + v.{quoted('+' + name)}" for name in shape.increments]
    sets.append(f'"lock_version" = r."lock_version" + v.{quoted(_COUNT)}')
    source = f"json_to_recordset(${number}) AS v({told})"
    return f'UPDATE {shape.statements.table} AS r SET {", ".join(sets)} FROM {source} WHERE r."id" = v."id"'  # noqa: S608
