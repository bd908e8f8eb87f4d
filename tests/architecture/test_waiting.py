"""Nothing sleeps to wait for an event: it awaits the event, or takes a clock."""

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.architecture.source import FILES, SOURCE, TESTS, tree_of

# How often each file sleeps; only shrinks. `clock.py` is what all others take.
SLEEPS = Counter(
    {
        "clock.py": 1,
        "execution/workers/worker.py": 1,
        "operations/jobs/heartbeat.py": 1,
        "operations/jobs/inline_engine.py": 1,
        "operations/jobs/job_child.py": 1,
        "operations/jobs/job_processes.py": 1,
        "operations/jobs/job_rows.py": 2,
        "operations/jobs/runner.py": 2,
        "operations/jobs/worker.py": 1,
        "operations/storage/migrating.py": 1,
        "operations/storage/sqlite.py": 1,
        "testing/processes.py": 1,
    }
)


def sleeps(file: Path) -> Iterator[ast.Call]:
    """Yield the calls of `time.sleep` and `asyncio.sleep`; `asyncio.sleep(0)` only yields control."""
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"time.sleep", "asyncio.sleep"}:
            seconds = node.args[0]
            if not (isinstance(seconds, ast.Constant) and seconds.value == 0):
                yield node


def test_the_package_sleeps_nowhere_else() -> None:
    counts = Counter({str(file.relative_to(SOURCE)): len([*sleeps(file)]) for file in FILES})
    assert counts <= SLEEPS, counts - SLEEPS


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
