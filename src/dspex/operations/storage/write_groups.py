"""Writes of many callers, committed together."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

from dspex.errors import InternalError, StorageError
from dspex.operations.framework.store import Change
from dspex.operations.storage.statements import Statements

LIMIT = 256


@dataclass(frozen=True, slots=True)
class Step:
    """One change, and the statements of its resource."""

    statements: Statements[Any]
    change: Change


Write = Sequence[Step]
Apply = Callable[[Sequence[Write]], Awaitable[Sequence[Exception | None]]]


@dataclass(frozen=True, slots=True)
class _Waiting:
    steps: Write
    done: asyncio.Future[None]


class WriteGroups:
    """Takes the writes of all tasks of one loop, and applies all pending ones together.

    A write waits only for one turn of the loop, in which others join its group. The steps of a
    write take effect completely or not at all, whatever happens to the rest of its group. Writes
    are applied in the order of their arrival, at most `LIMIT` at a time.
    """

    def __init__(self, apply: Apply) -> None:
        """Take a function that applies a group, and returns the error of each write or None.

        If it raises, the whole group has failed.
        """
        self._apply = apply
        self._waiting: deque[_Waiting] = deque()
        self._draining: asyncio.Task[None] | None = None
        self._is_closed = False
        self.last_error: StorageError | None = None
        """Why the last group could not be written; None if it was."""

    async def write(self, steps: Write) -> None:
        """Return when the steps are committed.

        If the caller is cancelled before its group starts, nothing is written; later, all or
        nothing.

        Raises:
            DspexError: nothing was written, unless the message says that the connection was lost at
                the commit.
        """
        if self._is_closed:
            raise StorageError("the database is closed")
        waiting = _Waiting(steps, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if self._draining is None:
            self._draining = asyncio.create_task(self._drain(), name="dspex writes")
        await waiting.done

    async def aclose(self) -> None:
        """Refuse further writes, and return when the waiting ones have finished."""
        self._is_closed = True
        if self._draining is not None:
            await self._draining

    async def _drain(self) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(0)  # writes of the tasks that run next join this group
                portion = [self._waiting.popleft() for _ in range(min(LIMIT, len(self._waiting)))]
                group = [waiting for waiting in portion if not waiting.done.done()]
                if group:
                    await self._apply_group(group)
        finally:
            self._draining = None
            for waiting_write in self._waiting:  # this task was cancelled with its loop
                waiting_write.done.cancel()
            self._waiting.clear()

    async def _apply_group(self, group: list[_Waiting]) -> None:
        outcomes: Sequence[BaseException | None]
        try:
            outcomes = await self._apply([waiting.steps for waiting in group])
            self.last_error = next(
                (error for error in outcomes if isinstance(error, StorageError)), None
            )
        except asyncio.CancelledError:
            for waiting in group:
                waiting.done.cancel()
            raise
        except Exception as error:  # noqa: BLE001  # given to all callers of the group
            outcomes = [error] * len(group)
            if isinstance(error, StorageError):
                self.last_error = error
        for waiting, outcome in zip(group, outcomes, strict=True):
            if waiting.done.done():
                continue
            if outcome is None:
                waiting.done.set_result(None)
            else:
                waiting.done.set_exception(_error_for_caller(outcome))


def _error_for_caller(error: BaseException) -> BaseException:
    """Return the error for one caller.

    Each raises its own object, because shared tracebacks would grow.
    """
    from dspex.errors import DspexError

    if isinstance(error, DspexError):
        caller_error: BaseException = copy(error)
    else:
        caller_error = InternalError(f"a write failed: {type(error).__name__}: {error}")
    caller_error.__cause__ = error
    return caller_error
