"""Nothing sleeps to wait for an event: it awaits the event, or takes a clock."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.architecture.source import FILES, TESTS, nodes_of

SLEEPS = 14  # in the package, for intervals and pauses of a known length; only shrinks


def sleeps(file: Path) -> Iterator[ast.Call]:
    """Yield the calls of `time.sleep` and `asyncio.sleep`.

    `asyncio.sleep(0)` only yields control.
    """
    for node in nodes_of(file) if "sleep" in file.read_text(encoding="utf-8") else ():
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"time.sleep", "asyncio.sleep"}:
            seconds = node.args[0]
            if not (isinstance(seconds, ast.Constant) and seconds.value == 0):
                yield node


def test_the_package_sleeps_nowhere_else() -> None:
    places = [f"{file.name}:{call.lineno}" for file in FILES for call in sleeps(file)]
    assert len(places) <= SLEEPS, places


def test_tests_wait_for_events() -> None:
    """`eventually` polls for what other processes do, and nothing else does.

    What the version before runs cannot import it.
    """
    files = [file for file in TESTS.rglob("*.py") if "version_before" not in file.parts]
    sleeping = {file.relative_to(TESTS).as_posix() for file in files if [*sleeps(file)]}
    assert sleeping == {"support/waiting.py"}


def test_a_sleep_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "impatient.py"
    file.write_text("import asyncio, time\ntime.sleep(1)\nasyncio.sleep(0)\nasyncio.sleep(wait)\n")
    assert [node.lineno for node in sleeps(file)] == [2, 4]
