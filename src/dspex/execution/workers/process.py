"""A child process and its two channels: starts with a clean environment and always ends."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from dspex.errors import WorkerError, WorkerStartError
from dspex.execution.workers.child.watchdog import PROC, descendants, kill, kill_marked
from dspex.execution.workers.connection import WorkerConnection
from dspex.execution.workers.orphans import RUN_VARIABLE, start_time
from dspex.execution.workers.spec import WorkerSpec
from dspex.sync import wake

_START = Path(__file__).parent / "child" / "start.py"
_LINE_LIMIT = 8192


def clean_environment(extra: Mapping[str, str], run: str) -> dict[str, str]:
    """Return the whole environment of a child. It is built here, so that it holds no secrets."""
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


class _LineReader(asyncio.Protocol):
    """Splits the output of a child into lines; truncates lines longer than 8 KiB."""

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
    """One running child, created by `start`. `wait` returns when all of its processes have ended.

    The child leads its own process group, which is killed with it, so that the processes that it
    started end too. Processes that left the group are found by the mark in their environment, or
    among the descendants that `note_descendants` recorded.
    """

    def __init__(
        self,
        process: "subprocess.Popen[bytes]",
        transports: list[asyncio.BaseTransport],
        *,
        mark: str,
    ) -> None:
        """Take the process and the transports that `start` created."""
        self.pid = process.pid
        self._mark = mark
        self._descendants: dict[int, int | None] = {}
        self._process = process
        self._transports = transports
        self._exit: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._watch_task = asyncio.get_running_loop().create_task(self._watch())

    @classmethod
    async def start(
        cls,
        spec: WorkerSpec,
        *,
        run: str,
        channel: WorkerConnection,
        health: WorkerConnection,
        on_line: Callable[[str, str], None],
    ) -> "ChildProcess":
        """Start a child and connect both channels; `on_line` gets the stream name and each line.

        Raises:
            WorkerStartError: the interpreter cannot be run.
        """
        mark = f"{run}:{uuid.uuid4().hex}"
        pairs = [socket.socketpair() for _ in range(2)]
        pipes = [os.pipe() for _ in range(2)]
        child_channels = [pair[1].fileno() for pair in pairs]
        try:
            process = _spawn(
                spec, mark, channels=child_channels, outputs=[pipe[1] for pipe in pipes]
            )
        except OSError as error:
            for pair in pairs:
                pair[0].close()
            for read_end, _ in pipes:
                os.close(read_end)
            raise WorkerStartError(
                f"the interpreter {spec.interpreter!r} could not be started: {error}; name a "
                "Python executable"
            ) from error
        finally:
            for pair in pairs:
                pair[1].close()
            for _, write_end in pipes:
                os.close(write_end)
        loop = asyncio.get_running_loop()
        transports: list[asyncio.BaseTransport] = []
        for pair, connection in zip(pairs, (channel, health), strict=True):
            pair[0].settimeout(0)
            transport, _ = await loop.create_connection(
                lambda item=connection: item,  # type: ignore[misc]
                sock=pair[0],
            )
            transports.append(transport)
        for (read_end, _), name in zip(pipes, ("stdout", "stderr"), strict=True):
            reader = partial(_LineReader, partial(on_line, name))
            pipe, _ = await loop.connect_read_pipe(reader, os.fdopen(read_end, "rb", 0))
            transports.append(pipe)
        return cls(process, transports, mark=mark)

    async def _watch(self) -> None:
        code = await _wait_for_exit(self._process)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)  # processes that it started must not outlive it
        await asyncio.to_thread(self._kill_remaining)
        await asyncio.sleep(0)  # read the last lines of output before the pipes close
        for transport in self._transports:
            transport.close()
        self._exit.set_result(code)

    def _kill_remaining(self) -> None:
        kill(self._running_descendants())
        if PROC.is_dir():
            kill_marked(self._mark.encode())

    def note_descendants(self) -> None:
        """Record the descendants of the child; called at every health check, and before a kill."""
        pids = {*descendants(self.pid), *self._running_descendants()}
        self._descendants = {pid: start_time(pid) for pid in pids}

    def _running_descendants(self) -> list[int]:
        """Return the recorded descendants that still run, even if they have another parent now."""
        return [
            pid
            for pid, started_at in self._descendants.items()
            if started_at is not None and start_time(pid) == started_at
        ]

    @property
    def has_ended(self) -> bool:
        """Whether the process has ended, so that `wait` returns at once."""
        return self._exit.done()

    async def wait(self) -> int:
        """Wait for the end and return the exit code; negative values are signals."""
        return await asyncio.shield(self._exit)

    def terminate(self) -> None:
        """Send SIGTERM, then SIGCONT, so that a stopped process handles it too."""
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill the child and its whole process group at once."""
        if not self._exit.done() and self._process.returncode is None:
            self.note_descendants()
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
            self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        if self._process.returncode is None:  # a reaped pid may belong to somebody else
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def memory(self) -> int | None:
        """Return its resident memory in bytes, None on a system without `/proc`."""
        try:
            text = Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii")
            return int(text.split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, IndexError):
            return None


def _spawn(
    spec: WorkerSpec, run: str, *, channels: list[int], outputs: list[int]
) -> "subprocess.Popen[bytes]":
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


async def _wait_for_exit(process: "subprocess.Popen[bytes]") -> int:
    """Wait without blocking the loop: on a pidfd if the system has them, otherwise in a thread."""
    loop = asyncio.get_running_loop()
    try:
        descriptor = os.pidfd_open(process.pid)
    except (AttributeError, OSError):
        return await asyncio.to_thread(process.wait)
    exited = loop.create_future()
    loop.add_reader(descriptor, wake, exited)
    try:
        await exited
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
    return process.wait()


def start_error(spec: WorkerSpec, cause: object) -> WorkerError:
    """Return the error of a worker that did not complete its handshake."""
    return WorkerStartError(
        f"the worker ({spec.host.name} on {spec.interpreter}) did not start: {cause}"
    )
