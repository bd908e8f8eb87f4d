"""The second defence against orphans: a small process that kills the workers of a killed parent.

The first defence, a thread in each child that waits for the end of the channel, cannot run while
the child is stopped or computes in C without releasing the interpreter lock. `PR_SET_PDEATHSIG`
does not help: it is sent when the thread that started the child ends, possibly long before its
process, and it does not reach the processes that the child started.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Self

from dspex.execution.workers.child.watchdog import PROC

_FILE = Path(__file__).parent / "child" / "watchdog.py"


class Watchdog:
    """A running watchdog; `close` ends it. Marked processes end within 2 s after this process."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        """Take the process that `start` created."""
        self._process = process

    @classmethod
    def start(cls, mark: str, interpreter: str) -> Self | None:
        """Start a watchdog for the processes with `mark`; None without `/proc` or an interpreter.

        It runs on the interpreter of this process, or on `interpreter` if this one is embedded.
        """
        if not PROC.is_dir():
            return None
        command = [sys.executable or interpreter, "-I", "-S", str(_FILE), mark]
        silence = subprocess.DEVNULL
        try:
            process = subprocess.Popen(  # noqa: S603  # our interpreter and our file
                command,
                stdin=subprocess.PIPE,
                stdout=silence,
                stderr=silence,
                env={"PATH": os.defpath},
                cwd="/",
                start_new_session=True,  # signals to the parent's group must not end it
            )
        except OSError:
            return None
        return cls(process)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def close(self) -> None:
        """End the watchdog, after all marked processes have ended."""
        self._process.kill()
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()
