"""Wrong arguments of public classes and functions: errors with a suggestion."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, Final, TypeVar

from dspex.error_text import shorten, suggest
from dspex.errors import DefinitionError

SELF: Final = "self"
_BY_POSITION: Final = {
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
}
F = TypeVar("F", bound=Callable[..., Any])


def checks_names(target: F) -> F:
    """Decorate a class or function: wrong arguments raise a `DefinitionError`.

    They have an unknown name, are missing, or are too many by position.
    """
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
                is_method = next(iter(inspect.signature(call).parameters), "") == SELF
                check_arguments(call, args[is_method:], kwargs, name=name)
            raise

    async def run(*args: Any, **kwargs: Any) -> Any:
        return await start(*args, **kwargs)

    checked: Any = wraps(call)(run if inspect.iscoroutinefunction(call) else start)
    return checked  # type: ignore[no-any-return]


def check_arguments(
    call: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], *, name: str
) -> None:
    """Check the names of the arguments of a function or constructor, and how many there are.

    `args` are without `self`.

    Raises:
        DefinitionError: an argument has an unknown name, is missing, or is one too many by
            position; the message has the names, and a similar one.
    """
    parameters = [each for each in inspect.signature(call).parameters.values() if each.name != SELF]
    kinds = {each.kind for each in parameters}
    takes = [each.name for each in parameters]
    suffix = f"It takes: {', '.join(takes)}"
    if inspect.Parameter.VAR_KEYWORD not in kinds:
        for each in kwargs:
            if each not in takes:
                raise DefinitionError(f"{name} takes no {each!r}.{suggest(each, takes)} {suffix}")
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        return
    names = [each.name for each in parameters if each.kind in _BY_POSITION]
    if len(args) > len(names):
        by_position = f"only {', '.join(names)}" if names else "nothing"
        raise DefinitionError(
            f"{name} takes {by_position} by position, not {shorten(args[len(names)])} too; write "
            f"it by name. {suffix}"
        )
    supplied = {*kwargs, *names[: len(args)]}
    missing = [
        each.name
        for each in parameters
        if each.default is inspect.Parameter.empty
        and each.kind is not inspect.Parameter.VAR_KEYWORD
        and each.name not in supplied
    ]
    if missing:
        raise DefinitionError(f"{name} needs {' and '.join(missing)}. {suffix}")
