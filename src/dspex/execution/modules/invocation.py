"""How a module is called: in which context, and what is wrong with a call that cannot be meant."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dspex.errors import DefinitionError, InvalidError, shorten
from dspex.execution.context import RunContext, current
from dspex.language.signatures import Signature


def context_of(
    context: object,
    misplaced: Sequence[object],
    *,
    name: str,
    contract: Callable[[], Signature],
    forward: Callable[..., Any],
) -> RunContext:
    """Return the context that a call was given, or the one in force here.

    Raises:
        InvalidError: inputs were given by place.
    """
    if context is None and not misplaced:
        return current()
    try:
        fields = list(contract().input_fields)
    except DefinitionError:
        fields = list(inspect.signature(forward).parameters)
    raise _by_place(name, fields, misplaced if isinstance(context, RunContext) else (context, *misplaced))


def _by_place(name: str, fields: Sequence[str], values: Sequence[object]) -> InvalidError:
    texts = [*(shorten(value, 40) for value in values), *["..."] * (len(fields) - len(values))]
    call = ", ".join(f"{field}={text}" for field, text in zip(fields, texts, strict=False))
    more = f"; it has {len(fields)} inputs, not {len(values)}" if len(values) > len(fields) else ""
    return InvalidError(f"the inputs of {name} are given by name: write program({call}){more}")


def unfit_call(name: str, forward: Callable[..., Any], inputs: Mapping[str, Any]) -> InvalidError | None:
    """Return what is wrong with `inputs`, where it is they that `forward` cannot be called with."""
    parameters = inspect.signature(forward)
    try:
        parameters.bind(**inputs)
    except TypeError as error:
        return InvalidError(
            f"the inputs of {name} do not fit: {error}; it takes: {', '.join(parameters.parameters) or 'none'}"
        )
    return None
