"""The process of a job, as its worker sees it: start, messages, and a certain end."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from uuid import UUID

import msgspec

from dspex.errors import DspexError, WorkerLostError
from dspex.execution.workers.orphans import RUN_VARIABLE
from dspex.operations.jobs.job_wire import Order, decode_sign, encode

Command = Callable[[int], Sequence[str]]
"""Returns the command of a process for jobs, whose socket has this file descriptor."""
_ABORT = 1.0
_log = logging.getLogger("dspex.jobs")


class JobProcess:
    """A child process that runs one job at a time, and leads a process group that ends with it.

    Its owner adds the passed seconds to `silent`; each heartbeat sets it to 0.
    """

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        """Take what `start` creates."""
        self.silent = 0.0
        self.is_ready = self.has_taken = False
        self.has_progress = False
        self._process = process
        self._writer = writer
        self._outcome: asyncio.Future[str] | None = None
        self._verdict: DspexError | None = None
        self._reading = asyncio.create_task(self._read(reader))

    @classmethod
    async def start(
        cls, command: Command, *, environment: Mapping[str, str], mark: str
    ) -> "JobProcess":
        """Start one; by the `mark` in its environment it is found if this process is killed.

        Raises:
            OSError: no process can be started now.
        """
        ours, theirs = socket.socketpair()
        try:
            process = await asyncio.create_subprocess_exec(
                *command(theirs.fileno()),
                env={**environment, RUN_VARIABLE: mark},
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        reader, writer = await asyncio.open_connection(sock=ours)
        return cls(process, reader, writer)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether it has ended or was asked to end."""
        return self._reading.done() or self._verdict is not None

    async def run(self, queue: str, job_id: UUID, turn: int, *, worker: str) -> str:
        """Let it run one turn of a job; return in one word how that ended.

        Raises:
            DspexError: the process ended, or was killed, before the job did.
        """
        self._outcome, self.has_progress, self.silent = (
            asyncio.get_running_loop().create_future(),
            False,
            0.0,
        )
        self.has_taken = False
        if self.has_ended:
            raise WorkerLostError("the process ended before the job began")
        self._send(Order(do="run", queue=queue, job=job_id, turn=turn, worker=worker))
        return await self._outcome

    def stop(self, job_id: UUID) -> None:
        """Ask it to stop the job, which was cancelled, paused or taken over."""
        self._send(Order(do="stop", job=job_id))

    def leave(self, job_id: UUID) -> None:
        """Ask it to hand the job back."""
        self._send(Order(do="leave", job=job_id))

    def kill(self, error: DspexError | None = None) -> None:
        """Kill it; its job then ends with `error`."""
        self._verdict = (
            self._verdict or error or WorkerLostError("the process of this job was killed")
        )
        self._signal(signal.SIGKILL)

    async def abort(self, error: DspexError) -> None:
        """Let it print the stack of its code to standard error, and end it."""
        self._verdict = self._verdict or error
        self._signal(signal.SIGABRT)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), _ABORT)
        self._signal(signal.SIGKILL)

    async def aclose(self, *, within: float) -> None:
        """Let it end by itself; kill it after `within` seconds."""
        self._writer.close()
        try:
            await asyncio.wait_for(self._process.wait(), within)
        except TimeoutError:
            self.kill()
        await asyncio.gather(self._reading, return_exceptions=True)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        error: DspexError | None = None
        try:
            while line := await reader.readline():
                self._receive(line)
        except (ConnectionError, msgspec.DecodeError, ValueError) as raised:
            error = WorkerLostError(f"the process of this job broke its channel: {raised}")
            self.kill(error)
        if self._outcome is not None and not self._outcome.done() and self._verdict is None:
            with contextlib.suppress(TimeoutError):  # the job's code may have closed the channel
                await asyncio.wait_for(self._process.wait(), _ABORT)
        self._signal(signal.SIGKILL)
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()
        code = await self._process.wait()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)  # with all that the job started
        if self._outcome is not None and not self._outcome.done():
            self._outcome.set_exception(self._verdict or error or WorkerLostError(_describe(code)))

    def _receive(self, line: bytes) -> None:
        sign = decode_sign(line)
        self.silent, self.is_ready = 0.0, True
        self.has_taken = self.has_taken or sign.has_taken
        self.has_progress = self.has_progress or sign.has_progress
        if sign.outcome is not None and self._outcome is not None and not self._outcome.done():
            self._outcome.set_result(sign.outcome)

    def _send(self, order: Order) -> None:
        if not self._writer.is_closing():
            self._writer.write(encode(order))

    def _signal(self, number: int) -> None:
        if self._process.returncode is None:  # afterwards its id may belong to another process
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)


def _describe(code: int) -> str:
    if code < 0:
        name = signal.Signals(-code).name
        why = "; the system kills the largest when memory runs out" if name == "SIGKILL" else ""
        return f"the process of this job was ended by {name}{why}"
    return (
        f"the process of this job ended by itself, with code {code}: its code exited, or its "
        "channel was closed"
    )
