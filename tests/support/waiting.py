"""Waiting for events with a deadline, so that no test sleeps."""

import asyncio
import inspect
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

T = TypeVar("T")
DEADLINE, PAUSE = 60.0, 0.01


def finish(coroutine: Coroutine[Any, Any, T], *, within: float = DEADLINE) -> T:
    """Run a coroutine on a fresh loop to its end; past the deadline it fails with TimeoutError."""

    async def bounded() -> T:
        async with asyncio.timeout(within):
            return await coroutine

    return asyncio.run(bounded())


async def eventually(condition: Callable[[], Any], *, within: float = DEADLINE) -> Any:
    """Return the first true value of `condition`, which may be a coroutine function.

    Only for what gives no event: other processes, their rows and their files. Everything else is
    awaited. Past the deadline it fails with TimeoutError.
    """
    async with asyncio.timeout(within):
        while True:
            value = condition()
            if inspect.isawaitable(value):
                value = await value
            if value:
                return value
            await asyncio.sleep(PAUSE)


class Child:
    """A process whose lines are read as they come; it is ended with the block."""

    def __init__(
        self, command: Sequence[str], *, cwd: Path, env: dict[str, str] | None = None
    ) -> None:
        self._lines: queue.Queue[str | None] = queue.Queue()
        self.seen: list[str] = []
        self.process = subprocess.Popen(
            command,
            cwd=cwd,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            bufsize=1,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout:
            for line in self.process.stdout:
                self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def wait_for_line(self, part: str, *, within: float = DEADLINE) -> str:
        """Return the next line that holds `part`.

        An ended process or a passed deadline fails with all lines seen.
        """
        end = time.monotonic() + within
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                raise AssertionError(
                    f"no line with {part!r} within {within} s; seen: {self.seen}"
                ) from None
            if line is None:
                raise AssertionError(
                    f"the process ended without a line with {part!r}; seen: {self.seen}"
                )
            self.seen.append(line)
            if part in line:
                return line

    def wait_for(self, condition: Callable[[], Any], *, within: float = DEADLINE) -> None:
        """Wait until a condition holds while it runs: for files, which give no event."""
        end = time.monotonic() + within
        while not condition():
            assert self.process.poll() is None, "the process ended"
            assert time.monotonic() < end, f"not within {within} s"
            time.sleep(PAUSE)

    def stop(self, *, within: float = DEADLINE) -> int:
        """Ask it to end (SIGTERM), wait, and return its exit code."""
        self.process.terminate()
        try:
            return self.process.wait(within)
        finally:
            self._reader.join(within)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(DEADLINE)
        self._reader.join(DEADLINE)
