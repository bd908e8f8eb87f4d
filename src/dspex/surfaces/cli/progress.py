"""A live line for long work, shown from the third second on."""

import shutil
import sys
import time
from threading import Event, Lock, Thread
from typing import Self

from dspex.error_text import quantity
from dspex.surfaces.cli.text_width import wrap_prose

_DELAY_S = 2.0
_INTERVAL_S = 0.5
_LOG_INTERVAL_S = 10.0


class Progress:
    """Counts steps in a line on standard error that moves on while a `with` block runs.

    The line has the time that passed and the time left: by the steps, or at most by a `limit_s`. On
    a terminal it is rewritten twice a second, otherwise printed every 10 s.
    """

    def __init__(
        self, what: str, total: int | None = None, unit: str = "", *, limit_s: float | None = None
    ) -> None:
        """Take the name of the work, and if known the number and noun of its steps, or a limit."""
        self.total = total
        self.done = 0
        self._what = what
        self._unit = unit
        self._limit_s = limit_s
        self._start = time.monotonic()
        self._is_shown = False
        self._is_terminal = sys.stderr.isatty()
        self._lock = Lock()
        self._end = Event()
        self._thread = Thread(target=self._refresh, daemon=True, name="progress")

    def step(self, _result: object = None) -> None:
        """Count one step."""
        self.done += 1

    def say(self, text: str) -> None:
        """Print a line above the live line."""
        with self._lock:
            self._clear()
            sys.stderr.write(f"{wrap_prose(text) if self._is_terminal else text}\n")
            sys.stderr.flush()

    def line(self, seconds: float) -> str:
        """Return the line after a number of seconds."""
        if not self.total:
            left = "" if self._limit_s is None else self._left("at most", self._limit_s - seconds)
            count = f"{self._number(self.done)}, " if self.done else ""
            return f"{self._what}: {count}{seconds:.0f} s{left}"
        count = f"{self.done} of {self._number(self.total)}"
        rate = seconds / self.done if self.done else None
        left = "" if rate is None else self._left("about", rate * (self.total - self.done))
        return f"{self._what}: {count}, {seconds:.0f} s{left}"

    def _number(self, count: int) -> str:
        return quantity(count, self._unit) if self._unit else str(count)

    def _left(self, how: str, seconds: float) -> str:
        return f", {how} {max(seconds, 0):.0f} s left"

    def _refresh(self) -> None:
        interval = _INTERVAL_S if self._is_terminal else _LOG_INTERVAL_S
        pause = _DELAY_S
        while not self._end.wait(pause):
            pause = interval
            line = self.line(time.monotonic() - self._start)
            with self._lock:
                self._clear()
                width = shutil.get_terminal_size().columns
                sys.stderr.write(line[: width - 1] if self._is_terminal else f"{line}\n")
                sys.stderr.flush()
                self._is_shown = True

    def _clear(self) -> None:
        if self._is_terminal and self._is_shown:
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()
            self._is_shown = False

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._end.set()
        self._thread.join()
        self._clear()
