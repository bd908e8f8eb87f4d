"""A line that says how far long work is, from the third second on."""

import sys
import time
from typing import Self

_PATIENCE = 2.0
_EVERY = 0.2


class Progress:
    """Counts steps and rewrites one line on standard error; where that is no terminal, a line every ten seconds."""

    def __init__(self, what: str, total: int | None = None) -> None:
        """Take what is done, and how many steps it has where that is known."""
        self._what = what
        self._total = total
        self._done = 0
        self._start = time.monotonic()
        self._shown = 0.0
        self._is_terminal = sys.stderr.isatty()

    def step(self, _finished: object = None) -> None:
        """Count one step."""
        self._done += 1
        now = time.monotonic()
        wait = _EVERY if self._is_terminal else 10.0
        if now - self._start >= _PATIENCE and now - self._shown >= wait:
            self._shown = now
            self._write(self._line(now))

    def _line(self, now: float) -> str:
        spent = now - self._start
        if not self._total:
            return f"{self._what}: {self._done} done, {spent:.0f} s"
        left = spent / self._done * (self._total - self._done)
        return f"{self._what}: {self._done} of {self._total}, {spent:.0f} s, about {left:.0f} s left"

    def _write(self, line: str) -> None:
        sys.stderr.write(f"\r\x1b[2K{line}" if self._is_terminal else f"{line}\n")
        sys.stderr.flush()

    def say(self, text: str) -> None:
        """Print a whole line on standard output, in the place of the progress line."""
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
