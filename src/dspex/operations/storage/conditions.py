"""Conditions on metadata as SQL: names and values are always bound, never part of a statement."""

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from dspex.errors import InvalidError
from dspex.execution.retrieval.where import Condition, Scalar, Where

_SIGNS: Final = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_LARGEST: Final = 2**63


class Parameters(dict[str, Any]):
    """Bound values by the names that they have in the statement."""

    def add(self, value: Any) -> str:
        """Bind a value and return how the statement refers to it."""
        if isinstance(value, int) and not -_LARGEST <= value < _LARGEST:
            value = float(value)
        name = f"w{len(self)}"
        self[name] = value
        return f":{name}"


Compile = Callable[[Condition, str, Parameters], str]


def sqlite_condition(condition: Condition, column: str, parameters: Parameters) -> str:
    """Return a condition on a column of JSON texts for SQLite."""
    name = parameters.add(condition.name)
    member = f"SELECT 1 FROM json_each({column}) AS j WHERE j.key = {name}"
    value = condition.value
    match condition.operator:
        case "eq":
            return _sqlite_equal(member, value, parameters)
        case "ne":
            return f"NOT {_sqlite_equal(member, value, parameters)}"
        case "in" if isinstance(value, tuple):
            tests = [_sqlite_equal(member, each, parameters) for each in value]
            return f"({' OR '.join(tests)})"
        case "exists":
            return f"{'' if value else 'NOT '}EXISTS ({member} AND j.type <> 'null')"
        case "contains":
            items = "json_each(CASE j.type WHEN 'array' THEN j.value ELSE '[]' END)"
            test = _sqlite_test("m", value, parameters)
            return (
                f"EXISTS (SELECT 1 FROM json_each({column}) AS j, {items} AS m "
                f"WHERE j.key = {name} AND {test})"
            )
    kinds = "('text')" if isinstance(value, str) else "('integer', 'real')"
    test = f"j.value {_SIGNS[condition.operator]} {parameters.add(value)}"
    return f"EXISTS ({member} AND j.type IN {kinds} AND {test})"


def _sqlite_equal(member: str, value: Any, parameters: Parameters) -> str:
    if value is None:
        return f"NOT EXISTS ({member} AND j.type <> 'null')"
    return f"EXISTS ({member} AND {_sqlite_test('j', value, parameters)})"


def _sqlite_test(row: str, value: Any, parameters: Parameters) -> str:
    if value is None or isinstance(value, bool):
        return f"{row}.type = '{json.dumps(value)}'"
    kinds = "('text')" if isinstance(value, str) else "('integer', 'real')"
    return f"{row}.type IN {kinds} AND {row}.value = {parameters.add(value)}"


def postgres_condition(condition: Condition, column: str, parameters: Parameters) -> str:
    """Return a condition on a column of type jsonb for PostgreSQL."""
    name, value = condition.name, condition.value
    if condition.operator in {"eq", "ne", "in"}:
        members: tuple[Scalar, ...] = value if isinstance(value, tuple) else (value,)
        tests = [_postgres_equal((column, name), each, parameters) for each in members]
        negation = "NOT " if condition.operator == "ne" else ""
        return f"{negation}({' OR '.join(tests)})"
    key = f"CAST({parameters.add(name)} AS text)"
    kind = f"jsonb_typeof({column} -> {key})"
    if condition.operator == "exists":
        return f"coalesce({kind}, 'null') {'<>' if value else '='} 'null'"
    if condition.operator == "contains":
        test = f"({column} -> {key}) @> {_jsonb([value], parameters)}"
        return f"CASE WHEN {kind} = 'array' THEN {test} ELSE false END"
    sign = _SIGNS[condition.operator]
    if isinstance(value, str):
        test = f'({column} ->> {key}) COLLATE "C" {sign} CAST({parameters.add(value)} AS text)'
        return f"CASE WHEN {kind} = 'string' THEN {test} ELSE false END"
    number = f"CAST(CAST({parameters.add(repr(value))} AS text) AS numeric)"
    test = f"CAST({column} ->> {key} AS numeric) {sign} {number}"
    return f"CASE WHEN {kind} = 'number' THEN {test} ELSE false END"


def _postgres_equal(member: tuple[str, str], value: Scalar, parameters: Parameters) -> str:
    column, name = member
    if value is None:
        key = f"CAST({parameters.add(name)} AS text)"
        return f"coalesce(jsonb_typeof({column} -> {key}), 'null') = 'null'"
    return f"{column} @> {_jsonb({name: value}, parameters)}"


def _jsonb(value: Any, parameters: Parameters) -> str:
    return f"CAST(CAST({parameters.add(json.dumps(value))} AS text) AS jsonb)"


def conditions_sql(
    where: Where, column: str, compile_condition: Compile
) -> tuple[str, Mapping[str, Any]]:
    """Return `AND ...` for a WHERE clause, "" without conditions, and the bound values."""
    for condition in where.conditions:
        _check_texts(condition)
    parameters = Parameters()
    tests = [
        f" AND {compile_condition(condition, column, parameters)}" for condition in where.conditions
    ]
    return "".join(tests), parameters


def _check_texts(condition: Condition) -> None:
    """Raise if a database cannot compare with a text of a condition."""
    value = condition.value
    for text in (condition.name, *(value if isinstance(value, tuple) else (value,))):
        if isinstance(text, str) and ("\0" in text or (not text.isascii() and _is_broken(text))):
            raise InvalidError(
                f"where.{condition.name!r}: a text has U+0000 or half of a surrogate pair"
            )


def _is_broken(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)
