"""Input errors of the library, shown as errors of actions."""

from collections.abc import Iterator
from contextlib import contextmanager

from dspex.errors import InputError, InvalidError


@contextmanager
def input_errors_as_invalid() -> Iterator[None]:
    """Raise an `InputError` of the block as an `InvalidError` with the same fields."""
    try:
        yield
    except InputError as error:
        raise InvalidError(error.message, errors=error.fields) from error
