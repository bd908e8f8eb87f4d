"""Values of arguments compared with the types that a signature declares for them."""

import math
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from inspect import isclass
from itertools import islice
from numbers import Integral, Real
from os import PathLike
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Union

from msgspec import Meta

Count = Annotated[int, Meta(ge=1)]
CountFromTwo = Annotated[int, Meta(ge=2)]
CountOrZero = Annotated[int, Meta(ge=0)]
Positive = Annotated[float, Meta(gt=0)]
Probability = Annotated[float, Meta(gt=0, lt=1)]
_DATA: Final = (str, bytes, int, float, list, tuple, set, dict, types.NoneType)
_MOST_ITEMS: Final = 100  # that are looked at
_NUMBERS: Final[Mapping[Any, tuple[type, str]]] = {
    int: (Integral, "a whole number"),
    float: (Real, "a number"),
}
_NAMES: Final[Mapping[Any, str]] = {
    str: "text",
    bool: "True or False",
    Path: "a path",
    types.NoneType: "None",
}


def fits(value: object, hint: Any) -> bool:
    """Return whether a value is of a type, as far as that can be seen without using the value.

    Numbers of NumPy are numbers, any path is a `Path`, and a list or another collection is what any
    collection of items may be. A protocol excludes plain data only.
    """
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return fits(value, args[0]) and all(_is_within(value, meta) for meta in args[1:])
    if origin in {Union, types.UnionType}:
        return any(fits(value, each) for each in args)
    if origin is Literal:
        return any(value == each and type(value) is type(each) for each in args)
    if hint in _NUMBERS:
        is_number = isinstance(value, _NUMBERS[hint][0]) and not isinstance(value, bool)
        return is_number and value == value  # no NaN
    if hint is Path:
        return isinstance(value, PathLike)
    kind = origin or hint
    if kind is Callable:
        return callable(value)
    if kind in {Any, object} or not isclass(kind) or typing.is_typeddict(kind):
        return True
    if issubclass(kind, Iterable) and kind.__module__ in {"builtins", "collections.abc"}:
        return _is_collection(value, kind, args)
    # of the classes of `typing`, such as `TextIO`, nothing is an instance
    if getattr(kind, "_is_protocol", False) or kind.__module__ == "typing":
        return not isinstance(value, _DATA)
    return isinstance(value, kind)


def description(hint: Any) -> str:
    """Return in words what values are of a type."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return f"{description(args[0])}{''.join(_range_text(meta) for meta in args[1:])}"
    if origin in {Union, types.UnionType}:
        *parts, last = dict.fromkeys(description(each) for each in args)
        return f"{', '.join(parts)} or {last}" if parts else last
    if origin is Literal:
        return f"one of {', '.join(map(repr, args))}"
    kind = origin or hint
    if kind is Callable:
        return "a function"
    if kind in _NUMBERS or kind in _NAMES:
        return _NUMBERS[kind][1] if kind in _NUMBERS else _NAMES[kind]
    if not isclass(kind):
        return "another value"
    if kind.__module__ in {"builtins", "collections.abc"}:
        name = "class" if kind is type else "mapping" if issubclass(kind, Mapping) else "list"
        return f"a {name}"
    return f"{'an' if kind.__name__[0] in 'AEIO' else 'a'} {kind.__name__}"


def _is_collection(value: object, kind: type, args: tuple[Any, ...]) -> bool:
    if issubclass(kind, str | bytes | Mapping):
        return isinstance(value, kind)
    if not isinstance(value, Iterable) or isinstance(value, str | bytes | Mapping):
        return False
    if not isinstance(value, list | tuple) or not args or (kind is tuple and args[-1] is not ...):
        return True
    return all(fits(item, args[0]) for item in islice(value, _MOST_ITEMS))


def _is_within(value: Any, meta: object) -> bool:
    if not isinstance(meta, Meta):
        return True
    return bool(
        value >= (-math.inf if meta.ge is None else meta.ge)
        and value <= (math.inf if meta.le is None else meta.le)
        and (meta.gt is None or value > meta.gt)
        and (meta.lt is None or value < meta.lt)
    )


def _range_text(meta: object) -> str:
    if not isinstance(meta, Meta):
        return ""
    bounds = (("from", meta.ge), ("above", meta.gt), ("to", meta.le), ("below", meta.lt))
    text = " and ".join(f"{word} {bound}" for word, bound in bounds if bound is not None)
    return f" {text}"
