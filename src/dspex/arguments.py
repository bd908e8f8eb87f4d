"""Wrong arguments of public classes and functions: errors with a suggestion."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import cache, wraps
from typing import Any, Final, Literal, TypeVar, get_type_hints

from dspex.argument_values import description, fits
from dspex.error_text import shorten, suggest
from dspex.errors import DefinitionError

SELF: Final = ("self", "cls")
_VARIADIC: Final = {inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL}
_BY_POSITION: Final = {
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
}
F = TypeVar("F", bound=Callable[..., Any])


def checks_names(target: F) -> F:
    """Decorate a class or function: wrong arguments raise a `DefinitionError`.

    They have an unknown name, are missing, are too many by position, or have a value of another
    type than the signature declares. Errors of its own about a value come first: types are compared
    when a constructor has run, or when a call has failed. See also `checks_values`.
    """
    if isinstance(target, type):
        constructor: Any = target
        constructor.__init__ = _checked(constructor.__init__, target.__name__, when="after")
        return target
    return _checked(target, _name(target), when="failed")


def checks_values(target: F) -> F:
    """Decorate a function as `checks_names` does, but compare the types before it runs."""
    return _checked(target, _name(target), when="before")


def _name(target: Callable[..., Any]) -> str:
    return target.__qualname__.rpartition("<locals>.")[2]


def _checked(call: F, name: str, *, when: Literal["before", "after", "failed"]) -> F:
    def start(*args: Any, **kwargs: Any) -> Any:
        if when == "before":
            _check_values(call, args, kwargs, name=name)
        try:
            result = call(*args, **kwargs)
        except (TypeError, ValueError, AttributeError) as error:
            trace = error.__traceback__
            if trace is not None and trace.tb_next is None:  # raised by the call, not inside it
                is_method = next(iter(inspect.signature(call).parameters), "") in SELF
                check_arguments(call, args[is_method:], kwargs, name=name)
            _check_values(call, args, kwargs, name=name)
            raise
        if when == "after":
            _check_values(call, args, kwargs, name=name)
        return result

    async def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return await start(*args, **kwargs)
        except (TypeError, ValueError, AttributeError):
            _check_values(call, args, kwargs, name=name)
            raise

    checked: Any = wraps(call)(run if inspect.iscoroutinefunction(call) else start)
    return checked  # type: ignore[no-any-return]


@cache
def _types(call: Callable[..., Any]) -> tuple[Mapping[str, Any], Sequence[str]]:
    """Return the types of the parameters by name, and the names that may come by position."""
    hints = get_type_hints(call, include_extras=True)
    parameters = inspect.signature(call).parameters.values()
    named = (each.name for each in parameters if each.kind not in _VARIADIC)
    by_position = [each.name for each in parameters if each.kind in _BY_POSITION]
    return {each: hints.get(each, Any) for each in named}, by_position


def _check_values(
    call: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], *, name: str
) -> None:
    types, by_position = _types(call)
    for each, value in {**dict(zip(by_position, args, strict=False)), **kwargs}.items():
        if each in types and not fits(value, types[each]):
            raise DefinitionError(
                f"`{each}` of {name} takes {description(types[each])}, not {shorten(value)}"
            )


def check_arguments(
    call: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], *, name: str
) -> None:
    """Check the names of the arguments of a function or constructor, and how many there are.

    `args` are without `self`.

    Raises:
        DefinitionError: an argument has an unknown name, is missing, or is one too many by
            position; the message has the names, and a similar one.
    """
    parameters = [
        each for each in inspect.signature(call).parameters.values() if each.name not in SELF
    ]
    kinds = {each.kind for each in parameters}
    takes = [each.name for each in parameters]
    suffix = f"It takes: {', '.join(takes)}"
    if inspect.Parameter.VAR_KEYWORD not in kinds:
        for each in kwargs:
            if each not in takes:
                raise DefinitionError(f"{name} takes no {each!r}.{suggest(each, takes)} {suffix}")
    names = [each.name for each in parameters if each.kind in _BY_POSITION]
    if len(args) > len(names) and inspect.Parameter.VAR_POSITIONAL not in kinds:
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
        and each.kind not in _VARIADIC
        and each.name not in supplied
    ]
    if missing:
        raise DefinitionError(f"{name} needs {' and '.join(missing)}. {suffix}")
