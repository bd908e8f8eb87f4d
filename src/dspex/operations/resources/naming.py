"""What a program may be called, and what values its settings may have."""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from dspex.errors import FieldError, InvalidError, shorten

_NAME: Final = re.compile(r"[^\s/\x00-\x1f\x7f]([^/\x00-\x1f\x7f]{0,198}[^\s/\x00-\x1f\x7f])?")


def check_name(name: str) -> None:
    """Do nothing where a program may have this name: it is a part of the paths by which it is called.

    Raises:
        InvalidError: it may not.
    """
    if not _NAME.fullmatch(name) or name in {".", ".."} or not name.isprintable():
        raise _invalid("name", name, "1 to 200 visible characters without a slash and without spaces around them")


def check_values(module: str, settings: Mapping[str, Any]) -> None:
    """Do nothing where the values of a program's settings can be meant; of names that it does not know, others tell.

    Raises:
        InvalidError: every value that cannot, each with its path.
    """
    wrong = []
    for name, value in settings.items():
        fits, expected = _VALUES.get(name, (_anything, ""))
        if value is not None and not fits(value):
            wrong.append(_field(f"configuration.{name}", value, expected))
    if wrong:
        raise InvalidError(f"the configuration of this {module} does not fit:\n  " + _lines(wrong), errors=wrong)


def _lines(wrong: list[FieldError]) -> str:
    return "\n  ".join(f"{field.path}: {field.message}" for field in wrong)


def _anything(_value: object) -> bool:
    return True


def _whole(least: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and least <= value < 2**31


def _number(most: float) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= most


def _texts(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(part, str) for part in value))


def _objects(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(part, Mapping) for part in value)


def _text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


_VALUES: Final[Mapping[str, tuple[Callable[[Any], bool], str]]] = {
    "temperature": (_number(100), "a number from 0 to 100"),
    "max_tokens": (_whole(1), "a whole number of at least 1"),
    "top_p": (_number(1), "a number from 0 to 1"),
    "seed": (_whole(0), "a whole number of at least 0"),
    "stop": (_texts, "a text, or a list of texts"),
    "repairs": (_whole(0), "a whole number of at least 0"),
    "max_iters": (_whole(1), "a whole number of at least 1"),
    "demos": (_objects, "a list of objects, each with inputs and outputs by field name"),
    "model": (_text, "the name of a model"),
    "adapter": (_text, "the name of an adapter"),
    "instructions": (lambda value: isinstance(value, str), "a text"),
}


def _field(path: str, value: object, expected: str) -> FieldError:
    name = path.partition(".")[0]
    message = f"{shorten(value)} is not {expected}"
    return FieldError(field=name, path=path, value=value, message=message, constraint="definition", expected=expected)


def _invalid(path: str, value: object, expected: str) -> InvalidError:
    error = _field(path, value, expected)
    return InvalidError(f"{path}: {error.message}", errors=[error])
