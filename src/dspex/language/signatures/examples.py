"""Generates example values of types; equal arguments give equal values."""

import math
from collections.abc import Callable
from typing import Any, ClassVar

from dspex.errors import SignatureError
from dspex.language.signatures.builtin import expand
from dspex.language.signatures.types import MISSING, Type

_FORMATS: dict[str, Callable[[int], str]] = {
    "date-time": lambda number: f"2026-01-{_day(number)}T{number % 24:02}:00:00Z",
    "date": lambda number: f"2026-01-{_day(number)}",
    "time": lambda number: f"{number % 24:02}:{number // 24 % 60:02}:00",
    "duration": lambda number: f"P{number % 1000 + 1}D",
    "email": lambda number: f"user{number % 1000}@example.com",
    "hostname": lambda number: f"host{number % 1000}.example.com",
    "ipv4": lambda number: f"192.0.2.{number % 256}",
    "ipv6": lambda number: f"2001:db8::{number % 65536:x}",
    "uri": lambda number: f"https://example.com/{number % 1000}",
    "uuid": lambda number: f"00000000-0000-4000-8000-{number:012x}",
    "decimal": lambda number: f"{number % 1000}.5",
}
_DEPTH = 3  # how deep an object may contain itself


def _day(number: int) -> str:
    return f"{number % 28 + 1:02}"


def example(type_: Type, name: str, number: int) -> Any:
    """Return a value that coercing validation accepts; it depends only on `name` and `number`.

    Raises:
        SignatureError: no value was found, because of a pattern or contradictory rules.
    """
    return _ExampleBuilder(()).build(type_, name, number)


class _ExampleBuilder:
    """Builds values inside the objects `enclosing`."""

    def __init__(self, enclosing: tuple[Type, ...]) -> None:
        self._enclosing = enclosing

    def build(self, type_: Type, name: str, number: int) -> Any:
        inner = expand(type_)
        method = self._methods.get(inner.kind)
        return f"{name}-{number % 1000}" if method is None else method(self, inner, name, number)

    def _atom(self, type_: Type, _: str, number: int) -> Any:
        choices = type_.constraint("one_of")
        return choices[number % len(choices)]

    def _union(self, type_: Type, name: str, number: int) -> Any:
        return self.build(self._simplest(type_), name, number)

    def _tuple(self, type_: Type, name: str, number: int) -> list[Any]:
        return [self.build(arg, name, number + at) for at, arg in enumerate(type_.args)]

    def _simplest(self, type_: Type) -> Type:
        return next((arg for arg in type_.args if not _has_reference(arg)), type_.args[0])

    def _list(self, type_: Type, name: str, number: int) -> list[Any]:
        if not type_.args:
            return []
        count = max(0 if _has_reference(type_.args[0]) else 1, type_.constraint("min_items") or 0)
        if type_.constraint("max_items") == 0:
            return []
        return [self.build(type_.args[0], name, number + at) for at in range(count)]

    def _dict(self, type_: Type, name: str, number: int) -> dict[Any, Any]:
        keys = list(type_.constraint("required_keys") or ())
        key, value = type_.args or (Type("str"), Type("any"))
        least = max(0 if _has_reference(value) or keys else 1, type_.constraint("min_size") or 0)
        if type_.constraint("max_size") == 0:
            return {}
        at = 0
        while len(keys) < least and at < least + len(keys) + 1000:
            dict_key = (
                name
                if key.kind == "str" and not key.constraints and at == 0
                else self.build(key, name, number + at)
            )
            keys += [] if dict_key in keys else [dict_key]
            at += 1
        return {
            dict_key: self.build(value, str(dict_key), number + at)
            for at, dict_key in enumerate(keys)
        }

    def _object(self, type_: Type, _: str, number: int) -> dict[str, Any]:
        maker = _ExampleBuilder((*self._enclosing, type_))
        return {
            member.name: maker.build(member.type, member.name, number)
            for member in type_.members
            if member.is_required and member.default is MISSING
        }

    def _ref(self, type_: Type, _: str, number: int) -> dict[str, Any]:
        places = [at for at, part in enumerate(self._enclosing) if part.title == type_.title]
        if not places or len(places) > _DEPTH:
            raise SignatureError(
                f"{type_.title!r} has no finite value: each one must contain another"
            )
        outer = self._enclosing[places[-1]]
        builder = _ExampleBuilder(self._enclosing)
        return builder._object(outer, type_.title, number)  # the same class

    def _any(self, type_: Type, name: str, number: int) -> Any:
        schema = type_.constraint("schema")
        if schema is None:
            return f"{name}-{number % 1000}"
        from dspex.language.signatures.schema_examples import schema_example

        texts = {format_: make(number) for format_, make in _FORMATS.items()}
        return schema_example(schema, texts, name, number=number)

    _methods: ClassVar[dict[str, Callable[["_ExampleBuilder", Type, str, int], Any]]] = {
        "any": _any,
        "atom": _atom,
        "union": _union,
        "list": _list,
        "tuple": _tuple,
        "dict": _dict,
        "object": _object,
        "ref": _ref,
        "none": lambda *_: None,
        "bool": lambda _maker, _type, _name, number: number % 2 == 0,
        "int": lambda _maker, type_, _name, number: _number(type_, number),
        "float": lambda _maker, type_, _name, number: _number(type_, number),
        "str": lambda _maker, type_, name, number: _text(type_, name, number),
        "binary": lambda _maker, _type, name, number: f"{name}-{number % 1000}".encode(),
    }


def _has_reference(type_: Type) -> bool:
    return type_.kind == "ref" or any(_has_reference(arg) for arg in type_.args)


def _text(type_: Type, name: str, number: int) -> str:
    rules = dict(type_.constraints)
    shortest, longest = rules.get("min_length", 0), rules.get("max_length", math.inf)
    if format_ := rules.get("format"):
        return _FORMATS[format_](number)
    if pattern := rules.get("pattern"):
        from dspex.language.signatures.pattern_examples import matching_text

        return matching_text(pattern, number, min_length=shortest, max_length=longest)
    text = f"{name}-{number % 1000}"
    return text[: len(text) if longest == math.inf else int(longest)].ljust(shortest, "x")


def _number(type_: Type, number: int) -> float:
    rules = dict(type_.constraints)
    low, high = rules.get("ge", rules.get("gt")), rules.get("le", rules.get("lt"))
    if low is None:
        low = 0 if high is None or high > 0 else high - 99
    if high is None:
        high = low + 99
    digits = rules.get("precision")
    step = rules.get(
        "multiple_of", 1 if type_.kind == "int" else None if digits is None else 10.0**-digits
    )
    if step is None:
        return float(low + (high - low) * (number % 98 + 1) / 99)  # strictly between the bounds
    first, last = math.ceil(low / step), math.floor(high / step)
    first += "gt" in rules and first * step <= low
    last -= "lt" in rules and last * step >= high
    value = (first + number % max(1, last - first + 1)) * step
    return (
        int(value)
        if type_.kind == "int"
        else float(value if digits is None else round(value, digits))
    )
