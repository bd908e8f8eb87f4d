"""The watchdog process: `python watchdog.py MARK`, with a pipe from the parent as its input.

The end of that pipe is the end of the parent. The watchdog then kills every process with the mark
and its descendants, even processes that are stopped or that compute in C with the interpreter lock
held. Linux only: marks are read from `/proc`.
"""

import contextlib
import os
import select
import signal
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

RUN_VARIABLE = "DSPEX_WORKER_RUN"
PROC = Path("/proc")
_POLL_SECONDS = 1.0  # a fork of the parent may hold the pipe open, so check the parent's pid too
_ROUNDS = 100
_PAUSE = 0.02
_SET_CHILD_SUBREAPER = 36


def marked_processes() -> "Iterator[tuple[int, bytes]]":
    """Yield the pid and the mark of every other marked process of this user."""
    prefix = f"{RUN_VARIABLE}=".encode()
    for folder in PROC.iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            if folder.stat().st_uid != os.getuid():
                continue
            entries = (folder / "environ").read_bytes().split(b"\0")
        except OSError:  # the process ended meanwhile, or we may not read it
            continue
        for entry in entries:
            if entry.startswith(prefix):
                yield int(folder.name), entry[len(prefix) :]
                break


def descendants(pid: int) -> "list[int]":
    """Return all descendants of `pid`; an empty list on a system without `/proc`.

    A process that leaves its parent stays a descendant if `pid` is a subreaper, as every worker is
    on Linux.
    """
    below: list[int] = []
    pending = [pid]
    while pending:
        try:
            tasks = list((PROC / str(pending.pop()) / "task").iterdir())
        except OSError:  # the process ended meanwhile
            continue
        for task in tasks:
            with contextlib.suppress(OSError):
                children = [
                    int(child) for child in (task / "children").read_text(encoding="ascii").split()
                ]
                below += children
                pending += children
    return below


def become_subreaper() -> None:
    """Adopt descendants that lose their parents. Linux only; does nothing on other systems."""
    if not sys.platform.startswith("linux"):
        return
    try:
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    except (ImportError, OSError, AttributeError):
        # a Python without ctypes: the mark still finds them
        return


def kill(pids: "Iterable[int]") -> None:
    """Kill processes at once; ignores processes that have ended already."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def kill_marked(mark: bytes) -> None:
    """Kill processes whose mark starts with `mark`, and their descendants, until none is left."""
    for _ in range(_ROUNDS):
        pids = [
            pid
            for pid, value in marked_processes()
            if value == mark or value.startswith(mark + b":")
        ]
        if not pids:
            return
        kill([*(child for pid in pids for child in descendants(pid)), *pids])
        select.select([], [], [], _PAUSE)


def main() -> None:
    """Wait for the end of the parent, then kill all processes with the mark."""
    parent, mark = os.getppid(), sys.argv[1].encode()
    while os.getppid() == parent:
        # nobody writes to the pipe, so readable means closed
        if select.select([0], [], [], _POLL_SECONDS)[0]:
            break
    kill_marked(mark)


if __name__ == "__main__":
    main()
