"""Misspelled keyword arguments of public classes and functions: errors with a suggestion."""

import inspect
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, TypeVar

from dspex.error_text import suggest
from dspex.errors import DefinitionError

F = TypeVar("F", bound=Callable[..., Any])


def checks_names(target: F) -> F:
    """Decorate a class or function: unknown names of arguments raise a `DefinitionError`."""
    if isinstance(target, type):
        constructor: Any = target
        constructor.__init__ = _checked(constructor.__init__, target.__name__)
        return target
    return _checked(target, target.__name__)


def _checked(call: F, name: str) -> F:
    def start(*args: Any, **kwargs: Any) -> Any:
        try:
            return call(*args, **kwargs)
        except TypeError as error:
            trace = error.__traceback__
            if trace is not None and trace.tb_next is None:  # raised by the call, not inside it
                check_names(call, kwargs, name=name)
            raise

    async def run(*args: Any, **kwargs: Any) -> Any:
        return await start(*args, **kwargs)

    checked: Any = wraps(call)(run if inspect.iscoroutinefunction(call) else start)
    return checked  # type: ignore[no-any-return]


def check_names(call: Callable[..., Any], names: Iterable[str], *, name: str) -> None:
    """Check the names of the keyword arguments of a function or constructor.

    Raises:
        DefinitionError: it does not take one of them; the message suggests a similar one.
    """
    parameters = inspect.signature(call).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    takes = [each for each in parameters if each != "self"]
    for each in names:
        if each not in takes:
            raise DefinitionError(
                f"{name} takes no {each!r}.{suggest(each, takes)} It takes: {', '.join(takes)}"
            )
