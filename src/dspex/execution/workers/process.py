"""A child process with its two channels: started clean, heard through events, ended for certain."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from dspex.errors import WorkerError, WorkerStartError
from dspex.execution.workers.child.watchdog import PROC, descendants, end_marked, kill
from dspex.execution.workers.connection import Connection
from dspex.execution.workers.orphans import RUN_VARIABLE, start_time
from dspex.execution.workers.spec import WorkerSpec

_START = Path(__file__).parent / "child" / "start.py"
_LINE_LIMIT = 8192


def clean_environment(extra: Mapping[str, str], run: str) -> dict[str, str]:
    """Return the whole environment of a child: made up here, so that no secret of this process can be in it."""
    return {
        "PATH": f"/usr/local/bin:{os.defpath}",
        "HOME": str(Path.home()),
        "TMPDIR": tempfile.gettempdir(),
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        **extra,
        RUN_VARIABLE: run,
    }


class _Lines(asyncio.Protocol):
    """Cuts what a child prints into lines; a line longer than 8 KiB is cut."""

    def __init__(self, on_line: Callable[[str], None]) -> None:
        self._on_line = on_line
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _LINE_LIMIT:
            lines, self._rest = [*lines, self._rest], b""
        for line in lines:
            self._on_line(line[:_LINE_LIMIT].decode("utf-8", "replace"))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._rest:
            self._on_line(self._rest[:_LINE_LIMIT].decode("utf-8", "replace"))


class ChildProcess:
    """One running child. Made by `start`; `wait` returns after its end, when nothing of it is left.

    It leads a process group of its own, which is killed with it, so that what it started ends too. What has left that
    group is found by the mark in its environment, or below the child, where `look` has seen it.
    """

    def __init__(
        self, process: "subprocess.Popen[bytes]", transports: list[asyncio.BaseTransport], *, mark: str
    ) -> None:
        """Take what `start` made."""
        self.pid = process.pid
        self._mark = mark
        self._below: dict[int, int | None] = {}
        self._process = process
        self._transports = transports
        self._ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._watching = asyncio.get_running_loop().create_task(self._watch())

    @classmethod
    async def start(
        cls,
        spec: WorkerSpec,
        *,
        run: str,
        channel: Connection,
        health: Connection,
        on_line: Callable[[str, str], None],
    ) -> "ChildProcess":
        """Start a child and connect both channels; `on_line` gets stream name and text of what it prints.

        Raises:
            WorkerStartError: the interpreter cannot be run.
        """
        mark = f"{run}:{uuid.uuid4().hex}"
        pairs = [socket.socketpair() for _ in range(2)]
        pipes = [os.pipe() for _ in range(2)]
        theirs = [pair[1].fileno() for pair in pairs]
        try:
            process = _spawn(spec, mark, channels=theirs, outputs=[pipe[1] for pipe in pipes])
        except OSError as error:
            for pair in pairs:
                pair[0].close()
            for read, _ in pipes:
                os.close(read)
            raise WorkerStartError(
                f"the interpreter {spec.interpreter!r} could not be started: {error}; name a Python executable"
            ) from error
        finally:
            for pair in pairs:
                pair[1].close()
            for _, write in pipes:
                os.close(write)
        loop = asyncio.get_running_loop()
        transports: list[asyncio.BaseTransport] = []
        for pair, connection in zip(pairs, (channel, health), strict=True):
            pair[0].settimeout(0)
            made, _ = await loop.create_connection(lambda item=connection: item, sock=pair[0])  # type: ignore[misc]
            transports.append(made)
        for (read, _), name in zip(pipes, ("stdout", "stderr"), strict=True):
            lines = _Lines(lambda line, stream=name: on_line(stream, line))  # type: ignore[misc]
            piped, _ = await loop.connect_read_pipe(lambda item=lines: item, os.fdopen(read, "rb", 0))  # type: ignore[misc]
            transports.append(piped)
        return cls(process, transports, mark=mark)

    async def _watch(self) -> None:
        code = await _exit_code(self._process)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)  # what it started must not outlive it
        await asyncio.to_thread(self._end_rest)
        await asyncio.sleep(0)  # the last lines it printed are read before the pipes close
        for transport in self._transports:
            transport.close()
        self._ended.set_result(code)

    def _end_rest(self) -> None:
        kill(self._still_below())
        if PROC.is_dir():
            end_marked(self._mark.encode())

    def look(self) -> None:
        """Note what runs below the child; called at every look at its health, and before it is killed."""
        pids = {*descendants(self.pid), *self._still_below()}
        self._below = {pid: start_time(pid) for pid in pids}

    def _still_below(self) -> list[int]:
        """Return what was below the child and still runs: where the child has crashed, the system has moved it."""
        return [pid for pid, started in self._below.items() if started is not None and start_time(pid) == started]

    @property
    def has_ended(self) -> bool:
        """Whether `wait` would return at once."""
        return self._ended.done()

    async def wait(self) -> int:
        """Wait for the end and return the exit code, negative for a signal."""
        return await asyncio.shield(self._ended)

    def terminate(self) -> None:
        """Ask the operating system to end it; a stopped one is continued, so that it can hear."""
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it and all that it started, at once."""
        if not self._ended.done() and self._process.returncode is None:
            self.look()
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
            self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        if self._process.returncode is None:  # a reaped pid may belong to somebody else
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def memory(self) -> int | None:
        """Return its resident memory in bytes, None where this system does not tell."""
        try:
            text = Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii")
            return int(text.split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, IndexError):
            return None


def _spawn(spec: WorkerSpec, run: str, *, channels: list[int], outputs: list[int]) -> "subprocess.Popen[bytes]":
    options: dict[str, Any] = {
        "channel": channels[0],
        "health": channels[1],
        "host": str(spec.host),
        "config": dict(spec.config),
        "paths": list(spec.paths),
        "limit": spec.frame_limit,
        "concurrency": spec.concurrency,
    }
    return subprocess.Popen(  # noqa: S603  # the interpreter is the operator's choice
        [spec.interpreter, str(_START), msgspec.json.encode(options).decode()],
        stdin=subprocess.DEVNULL,
        stdout=outputs[0],
        stderr=outputs[1],
        pass_fds=channels,
        env=clean_environment(spec.environment, run),
        start_new_session=True,
    )


async def _exit_code(process: "subprocess.Popen[bytes]") -> int:
    """Wait without blocking the loop: on a pidfd where there is one, in a thread elsewhere."""
    loop = asyncio.get_running_loop()
    try:
        descriptor = os.pidfd_open(process.pid)
    except (AttributeError, OSError):
        return await asyncio.to_thread(process.wait)
    ended = loop.create_future()
    loop.add_reader(descriptor, _settle, ended)
    try:
        await ended
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
    return process.wait()


def _settle(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


def start_error(spec: WorkerSpec, cause: object) -> WorkerError:
    """Return the error of a worker that did not introduce itself."""
    return WorkerStartError(f"the worker ({spec.host.name} on {spec.interpreter}) did not start: {cause}")
