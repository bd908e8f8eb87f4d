"""Errors of dspex as GraphQL errors whose `extensions` carry the type, the code and the fields."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from graphql import GraphQLError

from dspex.errors import ActionError, ConfigurationError, DspexError

_log = logging.getLogger("dspex.api")


@contextmanager
def as_graphql() -> Iterator[None]:
    """Turn what is raised inside into a GraphQL error; a fault of ours is logged and shown without its details."""
    try:
        yield
    except DspexError as error:
        is_shown = isinstance(error, ActionError | ConfigurationError) or error.is_retryable
        if not is_shown:
            _log.error("request failed: %s: %s", type(error).__name__, error.message)
        raise GraphQLError(error.message, extensions=extensions_of(error)) from error
    except Exception as error:
        _log.exception("a fault in dspex")
        raise GraphQLError("a fault in dspex; its log says more", extensions={"code": "internal"}) from error


def extensions_of(error: DspexError) -> dict[str, object]:
    """Return what a client's program needs of an error."""
    found: dict[str, object] = {
        "type": type(error).__name__,
        "code": error.code,
        "retryable": error.is_retryable,
        "fields": [field.to_dict() for field in error.fields],
    }
    if "execution_id" in error.context:
        found["executionId"] = error.context["execution_id"]
    return found
