"""Workers whose parent died without ending them: found by the mark of their run, and nothing else is touched."""

import contextlib
import os
import signal
import uuid

from dspex.execution.workers.child.watchdog import PROC as _PROC
from dspex.execution.workers.child.watchdog import RUN_VARIABLE, marked

__all__ = ["RUN_VARIABLE", "is_running", "run_mark", "start_time", "sweep"]


def run_mark() -> str:
    """Return a mark for the children of this process: its pid, its start time and a random part."""
    return f"{os.getpid()}:{start_time(os.getpid()) or 0}:{uuid.uuid4().hex}"


def sweep() -> list[int]:
    """Kill every marked process of this user whose parent run is over, and return their pids.

    Does nothing where there is no `/proc`; there the end of the channel alone ends a child.
    """
    if not _PROC.is_dir():
        return []
    killed = []
    for number, mark in marked():
        if _is_orphaned(mark):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(number, signal.SIGKILL)
                killed.append(number)
    return killed


def _is_orphaned(mark: bytes) -> bool:
    pid, started, *_ = (*mark.decode("ascii", "replace").split(":"), "", "")
    return pid.isdigit() and started.isdigit() and start_time(int(pid)) != int(started)


def is_running(pid: int, started: int) -> bool:
    """Whether the process that had `pid` when it was started still runs; `started` 0 asks for the pid alone."""
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
    """Return when `pid` was started, in clock ticks since boot; None where there is no such process."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    state, *rest = text.rpartition(")")[2].split()
    return None if state == "Z" else int(rest[18])  # a zombie runs nothing and owns no children
