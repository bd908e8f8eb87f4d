"""A terminal of a given width: commands run in it, and its screen is read as a person sees it."""

import fcntl
import os
import pty
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pyte

LINES = 50
DEADLINE = 120.0  # seconds for one command


class Terminal:
    """Runs shell commands in `folder`, each on a fresh screen of `columns` columns."""

    def __init__(self, folder: Path, columns: int, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self.columns = columns
        self._environment = {**environment, "TERM": "xterm-256color"}

    def run(self, command: str, *, kill_when: Callable[[], bool] | None = None) -> list[str]:
        """Return the lines of the screen and of what scrolled away, when the command has ended.

        It must end with 0, or is killed with all its processes as soon as `kill_when` is true.
        """
        screen = pyte.HistoryScreen(self.columns, LINES, history=10_000, ratio=1.0)
        stream = pyte.ByteStream(screen)
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, self.columns, 0, 0))
        process = subprocess.Popen(
            ["/bin/sh", "-ec", command],
            cwd=self.folder,
            env=self._environment,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        deadline = time.monotonic() + DEADLINE
        try:
            while chunk := _read(master):
                stream.feed(chunk)
                assert time.monotonic() < deadline, f"{command} did not end"
                if kill_when is not None and kill_when():
                    os.killpg(process.pid, signal.SIGKILL)
                    kill_when = None
        finally:
            os.close(master)
            if process.poll() is None and time.monotonic() >= deadline:
                os.killpg(process.pid, signal.SIGKILL)
            status = process.wait(30)
        lines = [_text(line, self.columns) for line in screen.history.top]
        lines += [line.rstrip() for line in screen.display]
        text = "\n".join(lines)
        assert status in {0, -signal.SIGKILL}, f"{command}: {status}\n{text}"
        return text.strip().splitlines()


def _read(master: int) -> bytes:
    try:
        return os.read(master, 65536)
    except OSError:  # the other end is closed
        return b""


def _text(line: Mapping[int, pyte.screens.Char], columns: int) -> str:
    return "".join(line[column].data for column in range(columns)).rstrip()
