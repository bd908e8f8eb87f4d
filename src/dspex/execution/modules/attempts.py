"""Attempts: runs of one module with the same inputs, each with new requests."""

import asyncio
from collections.abc import Awaitable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from dspex.error_text import shorten
from dspex.errors import DefinitionError, ExecutionError, InputError
from dspex.execution.context import RunContext, current
from dspex.execution.modules.module import Module
from dspex.language.records import Prediction

T = TypeVar("T")


def check_module(owner: str, module: object) -> None:
    """Raise unless the part of a wrapper is a module.

    Raises:
        DefinitionError: it is something else.
    """
    if not isinstance(module, Module):
        raise DefinitionError(
            f"{owner} takes a module, such as dspex.Predict('a -> b'), not {shorten(module)}"
        )


def check_count(name: str, count: int, *, least: int = 1) -> int:
    """Return a number of attempts.

    Raises:
        DefinitionError: it is not a whole number from `least`; the message has the name.
    """
    if not isinstance(count, int) or isinstance(count, bool) or count < least:
        raise DefinitionError(f"{name} must be a whole number from {least}, not {count!r}")
    return count


def attempt_context(
    number: int,
    *,
    of: int,
    context: RunContext | None = None,
    advice: Mapping[str, str] | None = None,
    is_silent: bool = False,
) -> RunContext:
    """Return the context of attempt `number` (from 0) of `of`.

    Its requests are new ones even behind a cache or in a search: see `Rollout`.

    Args:
        number: the number of the attempt.
        of: the maximum number of attempts; attempts of nested modules stay distinct.
        context: the context of the call that makes the attempts, by default the current one.
        advice: text for the prompts of predictors, by path; the key "" is for all of them.
        is_silent: whether streams get no events from the attempt.
    """
    context = context or current()
    frame = context.frame
    if advice:
        frame = msgspec.structs.replace(frame, advice={**frame.advice, **advice})
    if is_silent:
        frame = msgspec.structs.replace(frame, emit=None)
    return msgspec.structs.replace(context, rollout=context.rollout * of + number, frame=frame)


async def all_at_once(calls: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Return the results of calls that run at once, in order.

    The first error ends the others, and is raised itself.
    """
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(call) for call in calls]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


async def together(calls: Sequence[Awaitable[T]]) -> list[T]:
    """Return the results of calls that run at once, in order, without those that failed.

    Raises:
        ExecutionError: all calls failed; it is the error of the last one.
        InputError: the inputs are invalid; the other calls are cancelled.
    """
    results = await all_at_once([_outcome(call) for call in calls])
    successes = [result for result in results if not isinstance(result, ExecutionError)]
    if not successes:
        raise next(result for result in reversed(results) if isinstance(result, ExecutionError))
    return successes


async def _outcome(call: Awaitable[T]) -> T | ExecutionError:
    try:
        return await call
    except InputError:  # no attempt can succeed
        raise
    except ExecutionError as error:
        return error


async def sample(module: Module, inputs: Mapping[str, Any], count: int) -> list[Prediction]:
    """Return the predictions of `count` attempts at once, without those that failed.

    Raises:
        ExecutionError: all attempts failed.
    """
    return await together(
        [
            module.acall(attempt_context(number, of=count, is_silent=True), **inputs)
            for number in range(count)
        ]
    )
