"""Processes and file descriptors, for tests. Linux only."""

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


def fake_worker(config: Mapping[str, Any] | None = None, **options: Any) -> WorkerSpec:
    """Return a worker that runs the fake host; `options` are fields of `WorkerSpec`."""
    return WorkerSpec(
        host=fake_child.PATH, interpreter=sys.executable, config=config or {}, **options
    )


def is_alive(pid: int) -> bool:
    """Return whether a process runs; a zombie does not."""
    try:
        return (
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
            != "Z"
        )
    except OSError:
        return False


async def wait_until_ended(pid: int, seconds: float = 5.0) -> None:
    """Wait until a process has ended.

    Raises:
        TimeoutError: it still runs after `seconds`.
    """
    async with asyncio.timeout(seconds):
        while is_alive(pid):  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # polled, because it may not be our child


def open_resources() -> tuple[set[int], int]:
    """Return the children of this process, zombies included, and the number of open descriptors.

    Garbage is collected first, so that descriptors of earlier work do not count.
    """
    gc.collect()
    return set(_children_of(os.getpid())), len(os.listdir("/proc/self/fd"))


def process_tree(pid: int) -> list[int]:
    """Return the ids of a process and all its descendants."""
    return [pid, *(each for child in _children_of(pid) for each in process_tree(child))]


def _children_of(pid: int) -> list[int]:
    children: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # the thread or the process ended meanwhile
            children += [int(child) for child in task.read_text(encoding="ascii").split()]
    return children


def signal_process_tree(pid: int, number: int) -> None:
    """Send a signal to a process and all its descendants, as stopping a container would."""
    for each in process_tree(pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(each, number)
