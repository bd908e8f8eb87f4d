"""The code inside the process of a job, which runs one job at a time for its worker."""

import asyncio
import contextlib
import faulthandler
import logging
import signal
import socket
from collections.abc import Callable
from pathlib import Path

from dspex.errors import StorageError
from dspex.operations.jobs.job_wire import Order, Sign, decode_order, encode
from dspex.operations.jobs.runner import JobRunner

_log = logging.getLogger("dspex.jobs")


class JobChild:
    """Runs jobs on the orders of a worker, until the worker closes the socket or dies."""

    def __init__(self, make_runner: Callable[[str], JobRunner], *, beat: float) -> None:
        """Take a function from a worker's id to a runner, and the seconds between heartbeats."""
        self._make_runner = make_runner
        self._beat = beat
        self._runner: JobRunner | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._run: asyncio.Task[None] | None = None
        self._leave: asyncio.Task[None] | None = None

    async def serve(self, channel: socket.socket) -> None:
        """Serve until the channel ends."""
        _prepare_process()
        reader, self._writer = await asyncio.open_connection(sock=channel)
        beat = asyncio.create_task(self._send_heartbeats())
        try:
            while line := await reader.readline():
                await self._obey(decode_order(line))
        except ConnectionError:
            _log.debug("the worker of this process is gone")
        finally:
            if self._runner is not None:
                self._runner.abandon()
            tasks = [task for task in (beat, self._run, self._leave) if task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._writer.close()

    async def _obey(self, order: Order) -> None:
        if order.do == "run":
            if self._run is not None:
                await self._run
            self._runner = self._make_runner(order.worker)
            self._run = asyncio.create_task(self._run_job(self._runner, order))
        elif self._runner is not None and order.job is not None:
            if order.do == "stop":
                self._runner.stop(order.job)
            elif self._leave is None:
                self._leave = asyncio.create_task(self._runner.hand_back())

    async def _run_job(self, runner: JobRunner, order: Order) -> None:
        assert order.job is not None  # noqa: S101  # an order to run names one
        try:
            outcome = await runner.run(order.queue, order.job, order.turn)
        except StorageError as error:
            _log.warning("job %s could not be taken: %s", order.job, error.message)
            outcome = "unread"
        self._send(Sign(outcome=outcome))

    async def _send_heartbeats(self) -> None:
        while True:
            runs = () if self._runner is None else self._runner.running.values()
            self._send(
                Sign(has_taken=bool(runs), has_progress=any(run.has_progress for _, run in runs))
            )
            await asyncio.sleep(self._beat)

    def _send(self, sign: Sign) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(encode(sign))


def _prepare_process() -> None:
    """Let only the worker end this process; if it aborts it, print where the job's code is."""
    import resource  # which not every system has

    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    with contextlib.suppress(OSError):  # out of memory, this process goes before a server
        Path("/proc/self/oom_score_adj").write_text("500", encoding="ascii")
    with contextlib.suppress(NotImplementedError):
        for number in (signal.SIGTERM, signal.SIGINT):
            # not SIG_IGN, which programs that the job starts would inherit
            asyncio.get_running_loop().add_signal_handler(
                number, _log.debug, "the worker decides when this job ends"
            )
