"""Merged changes as a single PostgreSQL statement, which takes effect completely or not at all."""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import msgspec

from dspex.operations.storage.column_types import column_type
from dspex.operations.storage.merged_writes import COUNT, MergedWrites, Shape
from dspex.operations.storage.statements import Statement, Statements, quoted

_encode = msgspec.json.Encoder().encode


def one_statement(merging: MergedWrites) -> Statement | None:
    """Return the statement with its parameters, or None if the changes cannot be combined."""
    try:
        return _statement(merging)
    except Exception:  # noqa: BLE001  # one change is wrong; applied singly, it raises its error
        return None


def _statement(merging: MergedWrites) -> Statement:
    parameters: list[Any] = []
    for statements, entities in merging.inserts.items():
        for name in statements.times:
            _check_values(statements, name, (getattr(entity, name) for entity in entities))
        parameters.append(_text(entities))
    for shape, rows in merging.updates.items():
        for name in shape.statements.times:
            _check_values(shape.statements, name, (row.get(name) for row in rows.values()))
        parameters.append(_text(list(rows.values())))
    for shape, rows in merging.updates.items():
        parameters.append(len(rows))
        if shape.statuses:
            parameters.append(shape.statuses)
    return Statement(_sql(tuple(merging.inserts), tuple(merging.updates)), tuple(parameters))


def _check_values(statements: Statements[Any], name: str, values: Iterable[Any]) -> None:
    for value in values:
        statements.encoded(name, value)


def _text(rows: list[Any]) -> str:
    text = _encode(rows).decode()
    if "\\u0000" in text:
        raise ValueError("json_populate_recordset cannot read U+0000")
    return text


@lru_cache(maxsize=256)
def _sql(inserts: tuple[Statements[Any], ...], updates: tuple[Shape, ...]) -> str:
    parts, checks = [], []
    for n, statements in enumerate(inserts):
        row = f"json_populate_recordset(NULL::{statements.table}, ${n + 1})"
        columns = ", ".join(map(quoted, statements.names))
        parts.append(
            f"i{n} AS (INSERT INTO {statements.table} ({columns}) SELECT {columns} FROM {row})"
        )
    number = len(inserts) + len(updates)
    for n, shape in enumerate(updates):
        number += 1
        checks.append(f"(SELECT count(*) FROM u{n}) = ${number}")
        guard = "".join(
            f" AND r.{quoted(name)} IS NOT DISTINCT FROM v.{quoted('=' + name)}"
            for name in shape.expected
        )
        if shape.statuses:
            number += 1
            # Until the next vacuum, an index of statuses contains every status that a row ever had.
            # The `|| ''` keeps PostgreSQL from using it.
            guard += f" AND (r.\"status\" || '') = ANY(${number})"
        parts.append(f'u{n} AS ({_update(shape, len(inserts) + n + 1)}{guard} RETURNING r."id")')
    # If an update matches fewer rows than it names, a division by zero undoes the whole statement.
    check = f"1 / (CASE WHEN {' AND '.join(checks)} THEN 1 ELSE 0 END)" if checks else "1"
    return f"WITH {', '.join(parts)} SELECT {check}"


def _update(shape: Shape, number: int) -> str:
    kinds = shape.statements.kinds
    columns = {"id": "uuid", COUNT: "integer"}
    columns |= {name: column_type(kinds[name]).postgres for name in shape.values}
    columns |= {"+" + name: "bigint" for name in shape.increments}
    columns |= {"=" + name: column_type(kinds[name]).postgres for name in shape.expected}
    column_list = ", ".join(f"{quoted(name)} {kind}" for name, kind in columns.items())
    sets = [f"{quoted(name)} = v.{quoted(name)}" for name in shape.values]
    sets += [
        f"{quoted(name)} = r.{quoted(name)} + v.{quoted('+' + name)}" for name in shape.increments
    ]
    sets.append(f'"lock_version" = r."lock_version" + v.{quoted(COUNT)}')
    source = f"json_to_recordset(${number}) AS v({column_list})"
    return (
        f'UPDATE {shape.statements.table} AS r SET {", ".join(sets)} FROM {source} WHERE r."id" = '
        'v."id"'
    )
