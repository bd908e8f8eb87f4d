"""Validates the names and settings of programs."""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from dspex.error_text import shorten
from dspex.errors import FieldError, InvalidError
from dspex.execution.modules.settings import CHECKED, setting_problem
from dspex.operations.framework.field_errors import field_error

_NAME: Final = re.compile(r"[^\s/\x00-\x1f\x7f]([^/\x00-\x1f\x7f]{0,198}[^\s/\x00-\x1f\x7f])?")


def check_name(name: str) -> None:
    """Validate a program name, which is part of URL paths.

    Raises:
        InvalidError: the name is not allowed.
    """
    if not _NAME.fullmatch(name) or name in {".", ".."} or not name.isprintable():
        expected = "1 to 200 visible characters without a slash and without spaces around them"
        error = _field("name", name, f"{expected}, not {shorten(name)}")
        raise InvalidError(f"name: {error.message}", errors=[error])


def check_values(module: str, settings: Mapping[str, Any]) -> None:
    """Validate the values of known settings; unknown names are checked elsewhere.

    Raises:
        InvalidError: lists every invalid value with its path.
    """
    errors = []
    for name in [name for name in (*_VALUES, *CHECKED) if name in settings]:
        value = settings[name]
        if name in _VALUES:
            fits, expected = _VALUES[name]
            problem = "" if value is None or fits(value) else f"{expected}, not {shorten(value)}"
        else:
            problem = setting_problem(name, value)
        if problem:
            errors.append(_field(f"configuration.{name}", value, problem))
    if errors:
        raise InvalidError(
            f"the configuration of this {module} is invalid:\n  " + _lines(errors), errors=errors
        )


def _lines(errors: list[FieldError]) -> str:
    return "\n  ".join(f"{field.path}: {field.message}" for field in errors)


def _whole(least: int) -> Callable[[Any], bool]:
    return lambda value: (
        isinstance(value, int) and not isinstance(value, bool) and least <= value < 2**31
    )


def _objects(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(part, Mapping) for part in value)


_VALUES: Final[Mapping[str, tuple[Callable[[Any], bool], str]]] = {
    "repairs": (_whole(0), "a whole number from 0"),
    "max_iters": (_whole(1), "a whole number from 1"),
    "demos": (_objects, "a list of objects, each with inputs and outputs by field name"),
    "instructions": (lambda value: isinstance(value, str), "a text"),
}


def _field(path: str, value: object, expected: str) -> FieldError:
    return field_error(path, value, expected, message=f"give {expected}", constraint="definition")
