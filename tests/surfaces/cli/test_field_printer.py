"""Fields on a terminal while a program runs: what a person sees in the end is the result."""

import pyte
import pytest

from dspex.surfaces.cli.field_printer import FieldPrinter
from dspex.telemetry import FieldDelta, Status


def screen_of(capsys: pytest.CaptureFixture[str], columns: int = 40) -> list[str]:
    """Return the lines that a terminal shows after what was printed."""
    screen = pyte.Screen(columns, 20)
    stream = pyte.Stream(screen)
    stream.feed(capsys.readouterr().out.replace("\n", "\r\n"))
    return "\n".join(line.rstrip() for line in screen.display).rstrip().splitlines()


@pytest.fixture
def printer(monkeypatch: pytest.MonkeyPatch) -> FieldPrinter:
    monkeypatch.setenv("COLUMNS", "40")
    live_printer = FieldPrinter(is_live=True)
    live_printer.names = ("answer", "score")
    return live_printer


async def emit(printer: FieldPrinter, *pieces: tuple[str, str], attempt: int = 1) -> None:
    for field, text in pieces:
        await printer.emit(FieldDelta("self", field, text, attempt))


async def test_a_field_appears_with_its_first_piece_and_stays(
    printer: FieldPrinter, capsys: pytest.CaptureFixture[str]
) -> None:
    await printer.emit(Status("self", "Predict", "begun"))
    await emit(printer, ("plan", "a step inside"), ("answer", "Par"))
    assert capsys.readouterr().out == "answer: Par"
    await emit(printer, ("answer", "is"), ("score", "3"))
    printer.finish({"answer": "Paris", "score": 3})
    assert capsys.readouterr().out == "is\nscore: 3\n"


async def test_the_result_replaces_what_is_not_it(
    printer: FieldPrinter, capsys: pytest.CaptureFixture[str]
) -> None:
    await emit(printer, ("answer", "a draft that is longer than a row of the terminal, 日本"))
    await emit(printer, ("score", "3.0"))
    printer.finish({"answer": "PARIS", "score": 3})
    assert screen_of(capsys) == ["answer: PARIS", "score: 3"]


async def test_another_reply_begins_anew(
    printer: FieldPrinter, capsys: pytest.CaptureFixture[str]
) -> None:
    await emit(printer, ("answer", "Paris"), ("score", "high"))
    await emit(printer, ("answer", "Paris"), ("score", "3"), attempt=2)
    printer.finish({"answer": "Paris", "score": 3})
    assert screen_of(capsys) == ["answer: Paris", "score: 3"]


async def test_an_error_leaves_what_was_printed_on_a_line_of_its_own(
    printer: FieldPrinter, capsys: pytest.CaptureFixture[str]
) -> None:
    await emit(printer, ("answer", "Par"))
    with pytest.raises(KeyboardInterrupt), printer:
        raise KeyboardInterrupt
    assert capsys.readouterr().out == "answer: Par\n"


def test_without_pieces_the_result_is_printed(
    printer: FieldPrinter, capsys: pytest.CaptureFixture[str]
) -> None:
    printer.finish({"answer": "two\nlines", "score": 3})
    assert capsys.readouterr().out == "answer:\ntwo\nlines\nscore: 3\n"
