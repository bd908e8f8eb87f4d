"""Looking at processes and descriptors from a test. Linux only."""

import asyncio
import contextlib
import gc
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dspex.execution.workers import WorkerSpec
from dspex.testing import fake_child


def fake_worker(config: Mapping[str, Any] | None = None, **options: Any) -> WorkerSpec:  # noqa: ANN401
    """Return the specification of a worker that runs the fake host; `options` are fields of `WorkerSpec`."""
    return WorkerSpec(host=fake_child.PATH, interpreter=sys.executable, config=config or {}, **options)


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def gone(pid: int, seconds: float = 5.0) -> None:
    """Wait until a process has ended.

    Raises:
        TimeoutError: it still runs after `seconds`.
    """
    async with asyncio.timeout(seconds):
        while is_alive(pid):  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # there is nothing to wait for: it may be no child of ours


def holdings() -> tuple[set[int], int]:
    """Return the children of this process, zombies included, and how many descriptors it has open.

    What is garbage already is collected first: descriptors of earlier work are nobody's leak here.
    """
    gc.collect()
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        found |= {int(pid) for pid in (task / "children").read_text(encoding="ascii").split()}
    return found, len(os.listdir("/proc/self/fd"))


def family(pid: int) -> list[int]:
    """Return a process and all that descend from it."""
    children: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            children += [int(child) for child in task.read_text(encoding="ascii").split()]
    return [pid, *(each for child in children for each in family(child))]


def signal_family(pid: int, number: int) -> None:
    """Send a signal to a process and all that descend from it, as the stop of a whole container would."""
    for each in family(pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(each, number)
