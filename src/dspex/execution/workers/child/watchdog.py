"""The file of a process that outlives its parent for a moment: `python watchdog.py MARK`, with a pipe as its input.

The end of that pipe is the end of the parent. Every process with the mark is killed then, also one that is stopped or
that computes in C and lets no thread of its own run, and what it started. Linux only: marks are read from `/proc`.
"""

import contextlib
import os
import select
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

RUN_VARIABLE = "DSPEX_WORKER_RUN"
PROC = Path("/proc")
_LOOK = 1.0  # a fork of the parent may hold the pipe open, so its end is looked for too
_ROUNDS = 100
_PAUSE = 0.02


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


def main() -> None:
    """Wait for the end of the parent, then kill all that has the mark until there is nothing left."""
    parent, mark = os.getppid(), sys.argv[1].encode()
    while os.getppid() == parent:
        if select.select([0], [], [], _LOOK)[0]:  # nothing is ever written: it is the end
            break
    for _ in range(_ROUNDS):
        found = [pid for pid, its in marked() if its == mark]
        if not found:
            return
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        select.select([], [], [], _PAUSE)


if __name__ == "__main__":
    main()
