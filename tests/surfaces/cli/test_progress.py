"""The live line of long work: how far, how long, and how much longer."""

import io
from threading import Event as ThreadEvent
from typing import Any

import pyte
import pytest

from dspex.surfaces.cli import progress as progress_module
from dspex.surfaces.cli.options import WaitingObserver
from dspex.surfaces.cli.progress import Progress
from dspex.telemetry import Event


class TerminalStream(io.StringIO):
    """A standard error that is a terminal of 40 columns."""

    def isatty(self) -> bool:
        return True

    def screen(self) -> list[str]:
        screen = pyte.Screen(40, 10)
        pyte.Stream(screen).feed(self.getvalue().replace("\n", "\r\n"))
        return "\n".join(line.rstrip() for line in screen.display).rstrip().splitlines()


def open_terminal(monkeypatch: pytest.MonkeyPatch) -> TerminalStream:
    """Make standard error a terminal, in the test itself: pytest replaces it before each phase."""
    stream = TerminalStream()
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setenv("COLUMNS", "40")
    return stream


def test_a_line_says_how_much_longer_it_takes() -> None:
    progress = Progress("evaluating", 30, "row")
    assert progress.line(3) == "evaluating: 0 of 30 rows, 3 s"
    for _ in range(10):
        progress.step()
    assert progress.line(6) == "evaluating: 10 of 30 rows, 6 s, about 12 s left"
    assert Progress("importing rag.py:Rag").line(3.2) == "importing rag.py:Rag: 3 s"
    assert Progress("starting", limit_s=60).line(3) == "starting: 3 s, at most 57 s left"
    assert Progress("starting", limit_s=60).line(70) == "starting: 70 s, at most 0 s left"


def test_a_live_line_moves_on_without_steps_and_is_gone_at_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = open_terminal(monkeypatch)
    monkeypatch.setattr(progress_module, "_DELAY_S", 0.0)
    monkeypatch.setattr(progress_module, "_INTERVAL_S", 0.001)
    shown = _Countdown(3)
    monkeypatch.setattr(Progress, "line", shown.line)
    with Progress("importing a program with a very long name: 3 s, at most 57 s left") as progress:
        assert shown.wait()
        progress.say("a line above")
    assert terminal.screen() == ["a line above"]
    assert "importing a program with a very long na" in terminal.getvalue()


class _Countdown:
    """A line that is written a number of times before `wait` returns."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._event = ThreadEvent()

    def line(self, _seconds: float) -> str:
        self._count -= 1
        if self._count == 0:
            self._event.set()
        return "importing a program with a very long name"

    def wait(self) -> bool:
        return self._event.wait(60)


def _worker_event(state: str, **attributes: Any) -> Event:
    values = {"worker": "native-1", "state": state, **attributes}
    return Event(name="worker", message=f"worker native-1 is {state}", attributes=values)


def test_the_start_of_the_first_worker_is_a_live_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = open_terminal(monkeypatch)
    monkeypatch.setattr(progress_module, "_DELAY_S", 0.0)
    shown = _Countdown(1)
    monkeypatch.setattr(Progress, "line", shown.line)
    observer = WaitingObserver()
    observer.on_event(_worker_event("starting", limit_s=60.0))
    assert shown.wait()
    observer.on_event(Event(name="log", message="hello", attributes={"worker": "native-1"}))
    observer.on_event(_worker_event("ready"))
    assert terminal.screen() == ["native-1: hello"]
    written = terminal.getvalue()
    observer.on_event(_worker_event("starting", limit_s=60.0))
    observer.end()
    assert terminal.getvalue() == written
