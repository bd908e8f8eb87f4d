"""A progress line for long work, shown from the third second on."""

import sys
import time
from typing import Self

_DELAY_S = 2.0
_INTERVAL_S = 0.2


class Progress:
    """Counts steps and rewrites a line on standard error; without a terminal, a line every 10 s."""

    def __init__(self, what: str, total: int | None = None) -> None:
        """Take the name of the work and the number of its steps, if known."""
        self._what = what
        self._total = total
        self._done = 0
        self._start = time.monotonic()
        self._shown = 0.0
        self._is_terminal = sys.stderr.isatty()

    def step(self, _result: object = None) -> None:
        """Count one step."""
        self._done += 1
        now = time.monotonic()
        wait = _INTERVAL_S if self._is_terminal else 10.0
        if now - self._start >= _DELAY_S and now - self._shown >= wait:
            self._shown = now
            self._write(self._line(now))

    def _line(self, now: float) -> str:
        elapsed = now - self._start
        if not self._total:
            return f"{self._what}: {self._done} done, {elapsed:.0f} s"
        remaining = elapsed / self._done * (self._total - self._done)
        return (
            f"{self._what}: {self._done} of {self._total}, {elapsed:.0f} s, about {remaining:.0f} "
            "s left"
        )

    def _write(self, line: str) -> None:
        sys.stderr.write(f"\r\x1b[2K{line}" if self._is_terminal else f"{line}\n")
        sys.stderr.flush()

    def say(self, text: str) -> None:
        """Print a line on standard output, instead of the progress line."""
        self._clear()
        print(text, flush=True)

    def _clear(self) -> None:
        if self._is_terminal and self._shown:
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._clear()
