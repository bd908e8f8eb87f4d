"""Checking large values: it stops at a number of errors, can be ended from outside, and lets other threads run.

The engine checks a whole value in one step that nothing interrupts, and keeps every error. A patient validator comes
back to Python for each item of a list or mapping, which costs some time and gives control.
"""

from collections.abc import Callable
from typing import Any, Final

from pydantic_core import PydanticCustomError, ValidationError, core_schema

from dspex.language.signatures.limits import MAX_ERRORS

ERROR_LIMIT: Final = 10 * MAX_ERRORS
_POLL_INTERVAL: Final = 256
Schema = core_schema.CoreSchema


class Work:
    """One patient check: how many errors it has met, and who may end it."""

    __slots__ = ("errors", "look", "steps")

    def __init__(self, look: Callable[[], None] | None = None) -> None:
        """Begin; `look` is called every few hundred items, and ends the check by raising what is no `ValueError`."""
        self.errors = 0
        self.steps = 0
        self.look = look

    def fresh(self) -> "Work":
        """Return another check that the same one may end."""
        return Work(self.look)

    def step(self) -> None:
        """Count one item."""
        self.steps += 1
        if self.look is not None and self.steps % _POLL_INTERVAL == 0:
            self.look()


def check_items(schema: Schema) -> Schema:
    """Return `schema`, for the items of a list or mapping: behind enough errors the others are not looked at."""
    return core_schema.with_info_wrap_validator_function(_item, schema)


def _item(value: Any, check: Any, info: Any) -> Any:  # noqa: ANN401
    work: Work = info.context
    work.step()
    if work.errors >= ERROR_LIMIT:
        return value  # the whole is refused already
    try:
        return check(value)
    except ValidationError as error:
        work.errors += error.error_count()
        raise


def alternative(schema: Schema) -> Schema:
    """Return `schema`, for a member of a union: its errors say nothing about the other members."""
    return core_schema.with_info_wrap_validator_function(_alternative, schema)


def _alternative(value: Any, check: Any, info: Any) -> Any:  # noqa: ANN401
    work: Work = info.context
    before, work.errors = work.errors, 0
    try:
        return check(value)
    finally:
        work.errors = before


def summarize_errors(schema: Schema) -> Schema:
    """Return `schema`, one that is not ours: of very many errors it gives one that counts them."""
    return core_schema.no_info_wrap_validator_function(_summarize_errors, schema)


def _summarize_errors(value: Any, check: Any) -> Any:  # noqa: ANN401
    try:
        return check(value)
    except ValidationError as error:
        count = error.error_count()
        if count <= ERROR_LIMIT:
            raise
    raise PydanticCustomError("too_many", "{count} values inside do not fit", {"count": count})


def limit_unknown_members(schema: Schema, most_declared: int) -> Schema:
    """Return `schema`, for an object that takes no other members than its own: very many others are one error."""

    def check(value: Any) -> Any:  # noqa: ANN401
        if isinstance(value, dict) and len(value) > most_declared + ERROR_LIMIT:
            raise PydanticCustomError(
                "too_many",
                "has {count} members, where at most {names} are declared",
                {"count": len(value), "names": most_declared},
            )
        return value

    return core_schema.no_info_before_validator_function(check, schema)
