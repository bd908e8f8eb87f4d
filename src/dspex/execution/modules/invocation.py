"""Helpers for module calls: the context, errors for wrong arguments, and cancellation."""

import asyncio
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dspex.error_text import quantity, shorten
from dspex.errors import DefinitionError, InputError
from dspex.execution.context import RunContext, current
from dspex.language.records import Prediction
from dspex.language.signatures import Signature
from dspex.telemetry import StreamEvent


def context_of(
    context: object,
    positional: Sequence[object],
    *,
    name: str,
    contract: Callable[[], Signature],
    forward: Callable[..., Any],
) -> RunContext:
    """Return the context argument of a call, by default the current context.

    Raises:
        InputError: inputs were passed by position.
    """
    if context is None and not positional:
        return current()
    try:
        fields = list(contract().input_fields)
    except DefinitionError:
        fields = list(inspect.signature(forward).parameters)
    raise _positional_error(
        name, fields, positional if isinstance(context, RunContext) else (context, *positional)
    )


def _positional_error(name: str, fields: Sequence[str], values: Sequence[object]) -> InputError:
    texts = [*(shorten(value, 40) for value in values), *["..."] * (len(fields) - len(values))]
    call = ", ".join(f"{field}={text}" for field, text in zip(fields, texts, strict=False))
    count_hint = (
        f"; it has {quantity(len(fields), 'input')}, not {len(values)}"
        if len(values) > len(fields)
        else ""
    )
    return InputError(f"pass the inputs of {name} by name: write program({call}){count_hint}")


def call_problem(
    name: str, forward: Callable[..., Any], inputs: Mapping[str, Any]
) -> InputError | None:
    """Return the error if `forward` cannot be called with `inputs`."""
    parameters = inspect.signature(forward)
    try:
        parameters.bind(**inputs)
    except TypeError as error:
        return InputError(
            f"the inputs of {name} do not fit: {error}; it takes: "
            f"{', '.join(parameters.parameters) or 'none'}"
        )
    return None


async def cancel_and_drain(
    task: asyncio.Task[Prediction], events: asyncio.Queue[StreamEvent | None]
) -> None:
    """Cancel a run without a listener and wait for its end; drain `events`, so that it can emit."""
    if task.done():
        return
    task.cancel()
    while not task.done():
        while not events.empty():
            events.get_nowait()
        await asyncio.wait({task}, timeout=0.01)
    if not task.cancelled():
        task.exception()
