"""`serve --reload`: a server that starts again when the code of its project changes."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import click
from watchfiles import Change, DefaultFilter, watch

from dspex.bootstrap.retention import GRACE
from dspex.surfaces.cli.output import say

_SETTINGS = "dspex.toml"
_LOOK_MS = 200
_STOP_SECONDS = 2 * GRACE + 5
_is_followed = DefaultFilter()


def arguments_of(context: click.Context, *, without: Sequence[str]) -> list[str]:
    """Return the arguments and options of a command line, except those named in `without`."""
    words: list[str] = []
    for option in context.command.params:
        name = option.name or ""
        value = context.params.get(name)
        if isinstance(option, click.Argument):
            words += value or ()
        if value is None or name in without or not isinstance(option, click.Option):
            continue
        if option.is_flag:
            words += (option.opts if value else option.secondary_opts)[:1]
        else:
            words += [option.opts[0], str(value)]
    return words


def serve_with_reload(listener: socket.socket, words: Sequence[str], folder: Path) -> int:
    """Run `dspex serve` as a child on `listener`, again after each edit; return its exit code.

    Requests wait at the listener while the server starts. A server that ended by itself, as after
    a syntax error, starts again after the next edit.
    """
    server = _Server(listener, words)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, server.stop)
    server.start()
    edits = watch(folder, watch_filter=_is_code, rust_timeout=_LOOK_MS, yield_on_timeout=True)
    for changes in edits:
        if server.is_stopping:
            break
        if changes:
            names = sorted({Path(path).name for _, path in changes})
            say(f"{', '.join(names)} changed: the server starts again")
            server.restart()
        elif server.notice_end():
            say("the server has ended; it starts again after the next edit")
    return server.wait()


def inherited_listener(descriptor: int) -> socket.socket:
    """Return the socket of `serve_with_reload`; the end of that process interrupts this one."""
    threading.Thread(target=_interrupt_at_eof, daemon=True).start()
    return socket.socket(fileno=descriptor)


class _Server:
    """The child process. Signals reach it from here alone, because it has a separate session."""

    def __init__(self, listener: socket.socket, words: Sequence[str]) -> None:
        self._listener = listener
        self._words = words
        self._process: subprocess.Popen[bytes] | None = None
        self.is_stopping = False

    def start(self) -> None:
        descriptor = self._listener.fileno()
        self._process = subprocess.Popen(  # noqa: S603  # our interpreter and the user's options
            [sys.executable, "-m", "dspex", "serve", *self._words, "--listener", str(descriptor)],
            stdin=subprocess.PIPE,  # the child notices by its end that this process is gone
            pass_fds=(descriptor,),
            start_new_session=True,
        )

    def notice_end(self) -> bool:
        """Return whether the server has ended by itself; each end is noticed once."""
        if self._process is None or self._process.poll() is None:
            return False
        self._process = None
        return True

    def restart(self) -> None:
        """Let the running requests end, and start the server with the new code."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if not self.is_stopping:
            self.start()

    def stop(self, number: int, frame: FrameType | None) -> None:
        """Pass a signal on."""
        del frame
        self.is_stopping = True
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def wait(self) -> int:
        """Wait for the end; return the exit code, as shells do 128 + N after the signal N."""
        code = 0 if self._process is None else self._process.wait()
        return 128 - code if code < 0 else code


def _is_code(change: Change, path: str) -> bool:
    return (path.endswith(".py") or Path(path).name == _SETTINGS) and _is_followed(change, path)


def _interrupt_at_eof() -> None:
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGINT)
