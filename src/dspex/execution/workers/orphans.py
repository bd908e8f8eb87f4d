"""Kills workers whose parent died without ending them. The mark in their environment finds them."""

import contextlib
import os
import signal
import uuid

from dspex.execution.workers.child.watchdog import PROC as _PROC
from dspex.execution.workers.child.watchdog import RUN_VARIABLE, marked_processes

__all__ = ["RUN_VARIABLE", "is_running", "run_mark", "start_time", "sweep"]


def run_mark() -> str:
    """Return a mark for the children of this process: its pid, its start time and a random part."""
    return f"{os.getpid()}:{start_time(os.getpid()) or 0}:{uuid.uuid4().hex}"


def sweep() -> list[int]:
    """Kill every marked process of this user whose parent has ended, and return their pids.

    Does nothing on a system without `/proc`; there only the end of the channel ends a child.
    """
    if not _PROC.is_dir():
        return []
    pids = []
    for number, mark in marked_processes():
        if _is_orphaned(mark):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(number, signal.SIGKILL)
                pids.append(number)
    return pids


def _is_orphaned(mark: bytes) -> bool:
    pid, started_at, *_ = (*mark.decode("ascii", "replace").split(":"), "", "")
    return pid.isdigit() and started_at.isdigit() and start_time(int(pid)) != int(started_at)


def is_running(pid: int, started: int) -> bool:
    """Whether the process with this pid and start time runs; `started` 0 compares the pid only."""
    if _PROC.is_dir():
        return start_time(pid) is not None and started in {0, start_time(pid)}
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def start_time(pid: int) -> int | None:
    """Return the start time of `pid` in clock ticks since boot, None if it does not run."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    state, *rest = text.rpartition(")")[2].split()
    return None if state == "Z" else int(rest[18])  # a zombie runs nothing and has no children
