"""Errors of single fields of an input."""

import re

from dspex.error_text import shorten
from dspex.errors import FieldError, InvalidError


def field_error(
    path: str,
    value: object,
    expected: str,
    *,
    message: str | None = None,
    constraint: str = "input",
) -> FieldError:
    """Return the error of the field at `path`, such as "configuration.limit" or "metrics[0]"."""
    return FieldError(
        field=re.split(r"[.\[]", path)[0],
        path=path,
        value=value,
        message=message or f"{shorten(value)} is not {expected}",
        constraint=constraint,
        expected=expected,
    )


def invalid(
    path: str,
    value: object,
    expected: str,
    *,
    message: str | None = None,
    constraint: str = "input",
) -> InvalidError:
    """Return an error for one field of an input; see `field_error`."""
    error = field_error(path, value, expected, message=message, constraint=constraint)
    return InvalidError(f"{path}: {error.message}", errors=[error])
