"""Validates large values with an error limit, cancellation, and a chance for other threads to run.

pydantic-core validates a whole value in one uninterruptible step and keeps every error. A
cancellable validator returns to Python for each item of a list or mapping: slower, but with
control.
"""

from typing import TYPE_CHECKING, Any, Final

from pydantic_core import PydanticCustomError, ValidationError, core_schema

from dspex.language.signatures.limits import MAX_ERRORS

if TYPE_CHECKING:
    from dspex.language.signatures.cancellable_run import CancellableRun

ERROR_LIMIT: Final = 10 * MAX_ERRORS
Schema = core_schema.CoreSchema


def check_items(schema: Schema) -> Schema:
    """Wrap the schema of items, so that validation stops after enough errors."""
    return core_schema.with_info_wrap_validator_function(_item, schema)


def _item(value: Any, check: Any, info: Any) -> Any:
    run: CancellableRun = info.context
    run.step()
    if run.errors >= ERROR_LIMIT:
        return value  # the whole value is already invalid
    try:
        return check(value)
    except ValidationError as error:
        run.errors += error.error_count()
        raise


def alternative(schema: Schema) -> Schema:
    """Wrap the schema of a union member, so that its errors do not count for other members."""
    return core_schema.with_info_wrap_validator_function(_alternative, schema)


def _alternative(value: Any, check: Any, info: Any) -> Any:
    run: CancellableRun = info.context
    before, run.errors = run.errors, 0
    try:
        return check(value)
    finally:
        run.errors = before


def summarize_errors(schema: Schema) -> Schema:
    """Wrap a schema of pydantic's, so that too many errors become one with their number."""
    return core_schema.no_info_wrap_validator_function(_summarize_errors, schema)


def _summarize_errors(value: Any, check: Any) -> Any:
    try:
        return check(value)
    except ValidationError as error:
        count = error.error_count()
        if count <= ERROR_LIMIT:
            raise
    raise PydanticCustomError("too_many", "{count} values inside do not fit", {"count": count})


def limit_unknown_members(schema: Schema, most_declared: int) -> Schema:
    """Wrap the schema of a closed object, so that too many unknown members become one error."""

    def check(value: Any) -> Any:
        if isinstance(value, dict) and len(value) > most_declared + ERROR_LIMIT:
            raise PydanticCustomError(
                "too_many",
                "has {count} members, but only {names} are declared",
                {"count": len(value), "names": most_declared},
            )
        return value

    return core_schema.no_info_before_validator_function(check, schema)
