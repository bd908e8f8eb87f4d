"""Work that computes for long: it is done beside the event loop, and ends with whoever waits for it."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, TypeVar

from dspex.language.signatures.effort import Amount, too_much
from dspex.language.signatures.patience import Work

T = TypeVar("T")
THREADS: Final = 2  # more would only make the loop wait longer for the interpreter's lock


@dataclass(frozen=True, slots=True, kw_only=True)
class MostWork:
    """The most inputs that one execution may have on a server, whose callers share it."""

    values: int = 100_000
    microseconds: int = 100_000

    def check(self, amount: Amount) -> None:
        """Raise unless inputs are within it.

        Raises:
            InvalidError: they are not; it says why.
        """
        if amount.values > self.values:
            raise too_much("inputs", f"they hold {amount.values} values, more than the {self.values} allowed")
        if amount.microseconds > self.microseconds:
            raise too_much("inputs", "to try them against all alternatives and patterns of their types takes too long")


class _Abandoned(Exception):  # noqa: N818  # nobody waits for the result any more
    pass


class HeavyWork:
    """A few threads for what could hold an event loop. Used from one loop; they end with `close`."""

    def __init__(self) -> None:
        """Begin without a thread: each is started when it is first needed."""
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="dspex-heavy")

    async def run(self, function: Callable[[Work], T]) -> T:
        """Return what `function` returns; where the caller is cancelled, its `Work` ends it at the next look."""
        is_abandoned = False

        def look() -> None:
            if is_abandoned:
                raise _Abandoned

        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, function, Work(look))
        except asyncio.CancelledError:
            is_abandoned = True
            raise

    def close(self) -> None:
        """Start nothing more."""
        self._threads.shutdown(wait=False, cancel_futures=True)
