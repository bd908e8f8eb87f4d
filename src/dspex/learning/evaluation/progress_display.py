"""Progress that a notebook keeps when it is saved; a line of text without a notebook."""

import sys
from importlib import import_module
from typing import Any, Self, TextIO

from dspex.arguments import checks_names
from dspex.clock import Clock, SystemClock
from dspex.error_text import quantity
from dspex.learning.evaluation.report import Row
from dspex.markup import element, fragment, share_drawing
from dspex.telemetry import Event

_INTERVAL_NS, _LINE_NS = 200_000_000, 10_000_000_000


@checks_names
class ProgressDisplay:
    """Shows the progress of an evaluation (`on_row=`) or of a search (`on_progress=`).

    Use it as a context manager, so that it shows how the work ended. In a notebook it updates one
    output, which stays when the notebook is saved. In a terminal it rewrites a line, and elsewhere
    it writes one every ten seconds. Calls may come from any thread, one at a time.
    """

    def __init__(
        self,
        total: int | None = None,
        *,
        what: str = "row",
        clock: Clock | None = None,
        stream: TextIO | None = None,
    ) -> None:
        """Take the number of steps, if known, and what one of them is."""
        self._total, self._what = total, what
        self._clock = clock or SystemClock()
        self._stream = stream or sys.stderr
        self._started = self._shown = self._clock.monotonic_ns()
        self._count = self._failed = 0
        self._scores: list[float] = []
        self._message = ""
        self._handle: Any = None

    def __enter__(self) -> Self:
        self._started = self._clock.monotonic_ns()
        if _in_notebook():
            display = import_module("IPython.display")
            self._handle = display.display(self._content(""), raw=True, display_id=True)
        return self

    def __exit__(self, error_type: type[BaseException] | None, *_: object) -> None:
        self._show("" if error_type is None else f"stopped: {error_type.__name__}", is_last=True)

    def __call__(self, step: Row | Event) -> None:
        """Count a finished row, or take the message of a progress event."""
        self._count += 1
        if isinstance(step, Event):
            self._message = step.message
        elif step.score is None:
            self._failed += 1
        else:
            self._scores.append(step.score)
        is_due = self._clock.monotonic_ns() - self._shown >= self._pause
        if is_due:
            self._show("")

    @property
    def _pause(self) -> int:
        is_live = self._handle is not None or self._stream.isatty()
        return _INTERVAL_NS if is_live else _LINE_NS

    @property
    def text(self) -> str:
        """The progress in one line."""
        seconds = (self._clock.monotonic_ns() - self._started) / 1e9
        count = quantity(self._count, self._what)
        if self._total is not None:
            count = f"{self._count} of {quantity(self._total, self._what)}"
        parts = [count, *([self._message] if self._message else [])]
        if self._scores:
            parts.append(f"mean {sum(self._scores) / len(self._scores):.3f}")
        if self._failed:
            parts.append(f"{self._failed} failed")
        parts.append(f"{seconds:.0f} s")
        if self._total and 0 < self._count < self._total:
            rest = seconds / self._count * (self._total - self._count)
            parts.append(f"about {rest:.0f} s left")
        return ", ".join(parts)

    def _content(self, end: str) -> dict[str, str]:
        text = f"{self.text}, {end}" if end else self.text
        bar = share_drawing(self._count / self._total) if self._total else None
        line = element("p", text, class_="value")
        return {"text/plain": text, "text/html": fragment(bar, line)}

    def _show(self, end: str, *, is_last: bool = False) -> None:
        self._shown = self._clock.monotonic_ns()
        content = self._content(end)
        if self._handle is not None:
            self._handle.update(content, raw=True)
            return
        is_terminal = self._stream.isatty()
        start, finish = ("\r\x1b[2K", "\n" if is_last else "") if is_terminal else ("", "\n")
        self._stream.write(f"{start}{content['text/plain']}{finish}")
        self._stream.flush()


def _in_notebook() -> bool:
    """Return whether this is a kernel of IPython, which is imported then."""
    if "IPython" not in sys.modules:
        return False
    shell = import_module("IPython").get_ipython()
    return getattr(shell, "kernel", None) is not None
