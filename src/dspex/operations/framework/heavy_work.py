"""Threads for long computations, which stop when the caller is cancelled."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, TypeVar

from dspex.language.signatures.cancellable_run import CancellableRun
from dspex.language.signatures.effort import WorkAmount, too_much

T = TypeVar("T")
THREADS: Final = 2  # more threads would only delay the event loop at the interpreter lock


@dataclass(frozen=True, slots=True, kw_only=True)
class InputLimits:
    """The limits on the inputs of one execution, on a server that callers share."""

    values: int = 100_000
    microseconds: int = 100_000

    def check(self, amount: WorkAmount) -> None:
        """Raise unless the inputs are within the limits.

        Raises:
            InputError: a limit is exceeded; the message has the limit.
        """
        if amount.values > self.values:
            raise too_much(
                "inputs", f"they hold {amount.values} values, more than the {self.values} allowed"
            )
        if amount.microseconds > self.microseconds:
            raise too_much(
                "inputs",
                "to try them against all alternatives and patterns of their types takes too long",
            )


class _CallerCancelled(Exception):  # noqa: N818  # the caller was cancelled
    pass


class HeavyWork:
    """A few threads for work that would block the event loop.

    Owned by one event loop; call `close`.
    """

    def __init__(self) -> None:
        """Start without threads; they are created on demand."""
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="dspex-heavy")

    async def run(self, function: Callable[[CancellableRun], T]) -> T:
        """Run `function` in a thread; if the caller is cancelled, it stops at its next step."""
        is_cancelled = False

        def check_cancelled() -> None:
            if is_cancelled:
                raise _CallerCancelled

        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._threads, function, CancellableRun(check_cancelled)
            )
        except asyncio.CancelledError:
            is_cancelled = True
            raise

    def close(self) -> None:
        """Stop accepting work."""
        self._threads.shutdown(wait=False, cancel_futures=True)
