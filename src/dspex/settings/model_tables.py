"""The tables `[models.NAME]` of `dspex.toml`: fields, errors that name them, and JSON Schema."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from dspex.error_text import suggest
from dspex.settings.kinds import (
    InvalidSecretError,
    InvalidTableError,
    InvalidValueError,
    SettingKind,
    one_of_names,
)

NAME: Final = r"[A-Za-z_][A-Za-z0-9_-]{0,63}"
_ROUTE = ("policy", "weights", "patience", "percentile", "hedge_share", "circuit")
_CIRCUIT = ("window", "ratio", "minimum", "consecutive", "interval")
_BUDGET = ("usd", "tokens", "calls", "seconds")


def _number(least: float, most: float, *, is_whole: bool = False) -> SettingKind:
    noun = "a whole number" if is_whole else "a number"

    def read(value: object) -> float:
        is_number = isinstance(value, int if is_whole else int | float)
        if isinstance(value, bool) or not is_number or not least <= value <= most:  # type: ignore[operator]
            raise InvalidValueError(f"{noun} from {least:g} to {most:g}")
        return value  # type: ignore[return-value]

    kind = "integer" if is_whole else "number"
    return SettingKind(read, {"type": kind, "minimum": least, "maximum": most})


def _model(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidValueError("a model string, or the name of another table")
    if "://" in value:
        from dspex.execution.clients.address import credentials_of  # it loads all clients

        if credentials_of(value):
            raise InvalidSecretError("a URL without credentials: set DSPEX_API_KEY instead")
    return value


def _list(item: SettingKind, what: str) -> SettingKind:
    def read(value: object) -> tuple[Any, ...]:
        if not isinstance(value, list) or not value:
            raise InvalidValueError(f"a list of {what}")
        return tuple(item.parse(each) for each in value)

    schema = {"type": "array", "minItems": 1, "items": item.json_schema}
    return SettingKind(read, schema)


def _table(fields: Mapping[str, SettingKind]) -> SettingKind:
    def read(value: object) -> dict[str, Any]:
        problems: list[tuple[str, str]] = []
        values = _fields(value, fields, "", problems=problems)
        if problems:
            raise InvalidTableError(problems)
        return values

    properties = {name: kind.json_schema for name, kind in fields.items()}
    schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return SettingKind(read, schema)


def _policies() -> Iterable[str]:
    from dspex.execution.clients.routing import POLICIES  # it loads all clients

    return POLICIES


def _cache(value: object) -> bool | str:
    if not isinstance(value, bool | str) or value == "":
        raise InvalidValueError("true, false or the path of a file")
    return value


def _object(value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidValueError("a table of JSON members")
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        raise InvalidValueError("values that JSON has: no dates, no infinity") from None
    return value


_MODEL = SettingKind(_model, {"type": "string", "minLength": 1})
_SECONDS = _number(0.001, 86_400)
_COUNT = _number(1, 1 << 30, is_whole=True)
_RATE = _number(0.001, 1e9)
FIELDS: Final[Mapping[str, SettingKind]] = {
    "model": _MODEL,
    "models": _list(_MODEL, "model strings or names"),
    "fallback": _list(_MODEL, "model strings or names"),
    "policy": one_of_names(_policies),
    "weights": _list(_RATE, "numbers above 0"),
    "attempts": _number(1, 100, is_whole=True),
    "patience": _number(0, 86_400),
    "percentile": _number(0, 1),
    "hedge_share": _number(0, 1),
    "circuit": _table(
        {name: _COUNT if name in {"minimum", "consecutive"} else _RATE for name in _CIRCUIT}
        | {"ratio": _number(0.001, 1)}
    ),
    "cache": SettingKind(_cache, {"type": ["boolean", "string"], "minLength": 1}),
    "requests_per_minute": _RATE,
    "tokens_per_minute": _RATE,
    "concurrency": _number(1, 1 << 16, is_whole=True),
    "timeout": _SECONDS,
    "budget": _table({name: _COUNT if name in {"tokens", "calls"} else _RATE for name in _BUDGET}),
    "extra_body": SettingKind(_object, {"type": "object"}),
}


def _fields(
    value: object, fields: Mapping[str, SettingKind], path: str, *, problems: list[tuple[str, str]]
) -> dict[str, Any]:
    """Return the parsed fields of a table; what is wrong is added to `problems`, with its path."""
    prefix = f"{path}." if path else ""
    if not isinstance(value, Mapping):
        problems.append((path, f"expected a table, but it is {value!r}"))
        return {}
    values: dict[str, Any] = {}
    for name, part in value.items():
        if name not in fields:
            hint = suggest(str(name), list(fields))
            problems.append(
                (
                    f"{prefix}{name}",
                    f"there is no such field.{hint} Fields are: {', '.join(fields)}",
                )
            )
            continue
        try:
            values[name] = fields[name].parse(part)
        except InvalidTableError as error:
            problems += [(f"{prefix}{name}.{place}", text) for place, text in error.problems]
        except InvalidValueError as error:
            shown = "" if isinstance(error, InvalidSecretError) else f", but it is {part!r}"
            problems.append((f"{prefix}{name}", f"expected {error}{shown}"))
    return values


def _contradiction(values: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return the field and the problem if fields of a table contradict each other."""
    models = values.get("models", ())
    is_route = bool(models or values.get("fallback"))
    if ("model" in values) == bool(models):
        return "model", "expected either `model` or `models`"
    for name in _ROUTE:
        if name in values and not is_route:
            return name, "only a route has it: name its `models`, or a `fallback`"
    if "weights" in values and len(values["weights"]) != len(models):
        return "weights", f"expected {len(models)} numbers, one for each of `models`"
    for name in (
        "timeout",
        "extra_body",
        "requests_per_minute",
        "tokens_per_minute",
        "concurrency",
    ):
        if name in values and models:
            return name, "only a table with `model` has it: limit the models of the route"
    return None


def _models(value: object) -> dict[str, dict[str, Any]]:
    tables: Any = value
    if isinstance(value, str):  # of the environment
        try:
            tables = json.loads(value)
        except ValueError as error:
            raise InvalidValueError(f"JSON with a table for each name ({error})") from None
    if not isinstance(tables, Mapping):
        raise InvalidValueError("a table for each name, such as [models.main]")
    problems: list[tuple[str, str]] = []
    models: dict[str, dict[str, Any]] = {}
    for name, table in tables.items():
        if not re.fullmatch(NAME, name):
            problems.append((name, "a name has letters, digits, _ and -"))
            continue
        before = len(problems)
        values = _fields(table, FIELDS, name, problems=problems)
        if len(problems) == before and (problem := _contradiction(values)):
            problems.append((f"{name}.{problem[0]}", problem[1]))
        if len(problems) == before:
            models[name] = values
    if problems:
        raise InvalidTableError(problems)
    return models


def _schema() -> Mapping[str, Any]:
    properties = {name: kind.json_schema for name, kind in FIELDS.items()}
    return {
        "type": "object",
        "propertyNames": {"pattern": f"^{NAME}$"},
        "additionalProperties": {
            "type": "object",
            "properties": properties,
            "additionalProperties": False,
            "oneOf": [{"required": ["model"]}, {"required": ["models"]}],
        },
    }


MODELS: Final = SettingKind(_models, _schema)
