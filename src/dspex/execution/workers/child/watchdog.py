"""The file of a process that outlives its parent for a moment: `python watchdog.py MARK`, with a pipe as its input.

The end of that pipe is the end of the parent. Every process with the mark is killed then, also one that is stopped or
that computes in C and lets no thread of its own run, and what it started. Linux only: marks are read from `/proc`.
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
_LOOK = 1.0  # a fork of the parent may hold the pipe open, so its end is looked for too
_ROUNDS = 100
_PAUSE = 0.02
_SET_CHILD_SUBREAPER = 36


def marked() -> "Iterator[tuple[int, bytes]]":
    """Yield every process of this user that has a mark, other than this one, and its mark."""
    prefix = f"{RUN_VARIABLE}=".encode()
    for folder in PROC.iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            if folder.stat().st_uid != os.getuid():
                continue
            entries = (folder / "environ").read_bytes().split(b"\0")
        except OSError:  # it ended meanwhile, or is not ours to read
            continue
        for entry in entries:
            if entry.startswith(prefix):
                yield int(folder.name), entry[len(prefix) :]
                break


def descendants(pid: int) -> "list[int]":
    """Return the processes below `pid`, however they were started, those far below too; none where there is no `/proc`.

    A process that leaves its parent stays below `pid` where that is a subreaper, as every worker is on Linux.
    """
    below: list[int] = []
    pending = [pid]
    while pending:
        try:
            tasks = list((PROC / str(pending.pop()) / "task").iterdir())
        except OSError:  # it ended meanwhile
            continue
        for task in tasks:
            with contextlib.suppress(OSError):
                children = [int(child) for child in (task / "children").read_text(encoding="ascii").split()]
                below += children
                pending += children
    return below


def become_subreaper() -> None:
    """Let processes that leave their parents below this one stay below it. Linux only; does nothing elsewhere."""
    if not sys.platform.startswith("linux"):
        return
    try:
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    except (ImportError, OSError, AttributeError):  # a Python without ctypes: the mark finds them still
        return


def kill(pids: "Iterable[int]") -> None:
    """Kill processes at once; those that have ended already are left out."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def end_marked(mark: bytes) -> None:
    """Kill all that has the mark, or one that begins with it, and all below, until there is nothing left."""
    for _ in range(_ROUNDS):
        pids = [pid for pid, its in marked() if its == mark or its.startswith(mark + b":")]
        if not pids:
            return
        kill([*(child for pid in pids for child in descendants(pid)), *pids])
        select.select([], [], [], _PAUSE)


def main() -> None:
    """Wait for the end of the parent, then kill all that has the mark until there is nothing left."""
    parent, mark = os.getppid(), sys.argv[1].encode()
    while os.getppid() == parent:
        if select.select([0], [], [], _LOOK)[0]:  # nothing is ever written: it is the end
            break
    end_marked(mark)


if __name__ == "__main__":
    main()
