"""The second line against orphans: a process of a few MiB that ends the workers of a parent that was killed.

The first line, a thread in each child that waits for the end of the channel, cannot run while the child is stopped or
computes in C without letting go of the interpreter. `PR_SET_PDEATHSIG` would not do: it is sent when the thread that
started the child ends, which may be long before its process, and it reaches no process that the child started.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Self

from dspex.execution.workers.child.watchdog import PROC

_FILE = Path(__file__).parent / "child" / "watchdog.py"


class Watchdog:
    """A running watchdog; `close` ends it. While it runs, what has its mark does not outlive this process by 2 s."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        """Take what `start` made."""
        self._process = process

    @classmethod
    def start(cls, mark: str, interpreter: str) -> Self | None:
        """Watch over the processes with `mark`; None where there is no `/proc`, or no interpreter to do it.

        It runs on this process's own interpreter, or on `interpreter` where this one is embedded in something else.
        """
        if not PROC.is_dir():
            return None
        command = [sys.executable or interpreter, "-I", "-S", str(_FILE), mark]
        silence = subprocess.DEVNULL
        try:
            process = subprocess.Popen(  # noqa: S603  # our own interpreter and our own file
                command,
                stdin=subprocess.PIPE,
                stdout=silence,
                stderr=silence,
                env={"PATH": os.defpath},
                cwd="/",
                start_new_session=True,  # what is sent to the parent's group must not end it
            )
        except OSError:
            return None
        return cls(process)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def close(self) -> None:
        """End it, when nothing is left to watch over."""
        self._process.kill()
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()
