"""Errors of the inputs of actions."""

from dspex.error_text import shorten
from dspex.errors import FieldError, InvalidError

LONGEST = 86_400


def invalid(field: str, value: object, expected: str) -> InvalidError:
    """Return an error for one field of an input."""
    message = f"{shorten(value)} is not {expected}"
    error = FieldError(
        field=field, path=field, value=value, message=message, constraint="input", expected=expected
    )
    return InvalidError(f"{field}: {message}", errors=[error])
