"""One worker: a monitored child process that answers requests."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

from dspex.error_text import quantity
from dspex.errors import (
    DspexError,
    WorkerError,
    WorkerLostError,
    WorkerProtocolError,
    WorkerStartError,
)
from dspex.execution.workers.background_tasks import BackgroundTasks
from dspex.execution.workers.connection import CallHandler, WorkerConnection
from dspex.execution.workers.loaded import LoadedPrograms
from dspex.execution.workers.process import ChildProcess, start_error
from dspex.execution.workers.spec import WorkerSpec
from dspex.execution.workers.wire import JSON, PROTOCOL
from dspex.telemetry import Event, Observer

WorkerState = Literal["starting", "ready", "draining", "lost", "ended"]
PING_LIMIT = 3
_HARD_LIMIT = 1.5  # times the memory limit: drained above the limit, killed above this


class PoolWorker:
    """A supervised child: `start` spawns it, `ready` resolves after its handshake."""

    def __init__(
        self,
        name: str,
        spec: WorkerSpec,
        *,
        run: str,
        observer: Observer,
        on_change: Callable[["PoolWorker"], None] = lambda _: None,
    ) -> None:
        """Take what to run; calls `on_change` after each change of state and each freed slot."""
        self.name = name
        self.spec = spec
        self.state: WorkerState = "starting"
        self.about: dict[str, Any] = {}
        self.loaded = LoadedPrograms(spec.program_limit)
        self._unload_tasks: dict[str, asyncio.Task[None]] = {}
        self.served = 0
        self.memory = 0
        self.reason = ""
        self.failure: WorkerError | None = None
        self._run_mark = run
        self._observer = observer
        self._on_change = on_change
        self._channel = WorkerConnection(
            on_slot_free=self._on_slot_free, on_end=self._on_channel_end, limit=spec.frame_limit
        )
        self._health = WorkerConnection(on_end=self._on_channel_end)
        self._process: ChildProcess | None = None
        self._missed_pings = 0
        self._reserved_slots = 0
        self.is_stopping = False
        self.is_discarded = False
        self._tasks = BackgroundTasks()
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def pid(self) -> int | None:
        """The process id, None before the start."""
        return self._process.pid if self._process else None

    @property
    def busy(self) -> int:
        """The number of slots in use, including reserved and abandoned calls."""
        return self._channel.pending_count + self._reserved_slots

    @property
    def has_slot(self) -> bool:
        """Whether it can take another call."""
        return self.state == "ready" and self.busy < self.spec.concurrency

    def reserve(self) -> None:
        """Reserve a slot for a call that starts soon; `release` gives it back."""
        self._reserved_slots += 1

    def release(self) -> None:
        """Give back a reserved slot, because its call starts now or never."""
        self._reserved_slots -= 1

    async def start(self) -> None:
        """Spawn the process without waiting until it is ready.

        Raises:
            WorkerStartError: the interpreter cannot be run.
        """
        try:
            self._process = await ChildProcess.start(
                self.spec,
                run=self._run_mark,
                channel=self._channel,
                health=self._health,
                on_line=self._log_line,
            )
        except WorkerStartError as error:
            self._give_up(error)
            raise
        self._report(
            "worker",
            f"worker {self.name} is starting",
            state="starting",
            limit_s=self.spec.start_seconds,
        )
        self._tasks.spawn(self._handshake())

    async def _handshake(self) -> None:
        hello = {"protocol": PROTOCOL, "codec": self.spec.codec}
        try:
            about = await self._channel.request("handshake", hello, seconds=self.spec.start_seconds)
            if not isinstance(about, dict) or about.get("protocol") != PROTOCOL:
                raise WorkerProtocolError(
                    f"the child answered the handshake with {about!r}, not with protocol {PROTOCOL}"
                )
        except DspexError as error:
            self._give_up(start_error(self.spec, error.message))
            return
        self.about, self.served = about, 0
        self._channel.codec = (
            self.spec.codec if self.spec.codec in about.get("codecs", ()) else JSON
        )
        self._set_state("ready", f"python {about.get('python')}")
        if not self.ready.done():
            self.ready.set_result(None)

    def _give_up(self, error: WorkerError) -> None:
        self.failure = error
        if not self.ready.done():
            self.ready.set_exception(error)
            self.ready.exception()  # mark it as retrieved, because nobody has to wait for it
        self.kill(error.message)

    def _set_state(self, state: WorkerState, reason: str) -> None:
        self.state, self.reason = state, reason
        self._report(
            "worker", f"worker {self.name} is {state}: {reason}", state=state, pid=self.pid
        )
        self._on_change(self)

    def _report(self, name: Literal["worker", "log"], message: str, **attributes: object) -> None:
        self._observer.on_event(
            Event(name=name, message=message, attributes={"worker": self.name, **attributes})
        )

    def _log_line(self, stream: str, line: str) -> None:
        self._report("log", line, stream=stream)

    def _on_slot_free(self) -> None:
        self.served += 1
        limit = self.spec.request_limit
        if self.state == "ready" and limit is not None and self.served >= limit:
            self._set_state("draining", f"it has served {quantity(limit, 'request')}")
        else:
            self._on_change(self)

    def _on_channel_end(self, error: WorkerError) -> None:
        """Handle the end of a channel: a process without its channels is useless, so kill it."""
        if self.failure is None and not self.is_stopping:
            self.failure = error
        self._channel.fail(error)
        self._health.fail(error)
        if self._process is not None and not self.is_stopping:
            self._process.kill()
        if self.state in {"starting", "ready", "draining"} and not self.is_stopping:
            self._set_state("lost", error.message)

    async def call(
        self,
        command: str,
        args: Mapping[str, Any],
        *,
        seconds: float | None = None,
        handler: CallHandler | None = None,
    ) -> Any:
        """Make one request (see `WorkerConnection.request`); kills a child that does not stop."""
        try:
            return await self._channel.request(command, args, seconds=seconds, handler=handler)
        except BaseException:
            if self._channel.abandoned_requests and self.state != "ended":
                self._tasks.spawn(self._free_or_kill())
            raise

    async def load(
        self,
        handle: str,
        args: Mapping[str, Any],
        *,
        seconds: float | None = None,
        handler: CallHandler | None = None,
    ) -> None:
        """Create a program unless it is loaded; unloads the least recently used ones to make room.

        Raises:
            DspexError: the error that the child returned.
        """
        if (unload_task := self._unload_tasks.get(handle)) is not None:
            # the child runs commands concurrently: a create may overtake a delete
            await asyncio.wait({unload_task})
        if handle not in self.loaded:
            await self.call("create_program", args, seconds=seconds, handler=handler)
            self.loaded.add(handle)
            for handle_to_drop in self.loaded.take_surplus():
                unload_task = self._unload_tasks[handle_to_drop] = self._tasks.spawn(
                    self._unload(handle_to_drop)
                )
                unload_task.add_done_callback(partial(self._forget_unload, handle_to_drop))

    async def _unload(self, handle: str) -> None:
        with contextlib.suppress(DspexError):  # a lost worker holds no programs
            await self.call("delete_program", {"handle": handle})

    def _forget_unload(self, handle: str, _task: asyncio.Task[None]) -> None:
        self._unload_tasks.pop(handle, None)

    async def _free_or_kill(self) -> None:
        busy = self._channel.abandoned_requests
        await asyncio.sleep(self.spec.cancel_seconds)
        if busy & self._channel.abandoned_requests:
            self.discard("a cancelled call did not stop")

    def check(self) -> None:
        """Ping the child and check its memory; call it once in each health interval.

        Three pings in a row without a reply end the worker. It is drained above its memory limit
        and killed far above it.
        """
        if self.state not in {"ready", "draining"} or self._process is None:
            return
        if self._missed_pings >= PING_LIMIT:
            self.kill(f"it missed {PING_LIMIT} pings")
            return
        self._missed_pings += 1
        self._tasks.spawn(self._ping())
        self._process.note_descendants()
        self.memory = self._process.memory() or self.memory
        limit = self.spec.memory_limit
        if limit is not None and self.memory > limit * _HARD_LIMIT:
            self.discard(
                f"it uses {self.memory >> 20} MiB of memory; the limit is {limit >> 20} MiB"
            )
        elif limit is not None and self.memory > limit and self.state == "ready":
            self._set_state(
                "draining",
                f"it uses {self.memory >> 20} MiB of memory; the limit is {limit >> 20} MiB",
            )

    async def _ping(self) -> None:
        with contextlib.suppress(WorkerError):  # `_on_channel_end` reports it
            reply = await self._health.request("ping", {})
            self._missed_pings = 0
            if (
                self._process is not None
                and self._process.memory() is None
                and isinstance(reply, dict)
            ):
                self.memory = int(reply.get("memory", 0))

    def drain(self, reason: str) -> None:
        """Accept no further calls."""
        if self.state in {"starting", "ready"}:
            self._set_state("draining", reason)

    def discard(self, reason: str) -> None:
        """Kill it because of a call; this does not count as a failure of the worker."""
        self.is_discarded = True
        self.kill(reason)

    def kill(self, reason: str) -> None:
        """Kill it at once; its calls fail with a retryable error."""
        if self.state == "ended":
            return
        self.reason = reason
        error = self.failure or WorkerLostError(f"worker {self.name} was killed: {reason}")
        self._on_channel_end(error)
        if self._process is not None:
            self._process.kill()

    async def wait(self) -> WorkerError | None:
        """Wait for the end; returns the failure, or None after `stop` or `discard`."""
        if self._process is None:
            return self.failure
        code = await self._process.wait()
        error = self.failure
        if error is None and code != 0:
            error = WorkerLostError(f"worker {self.name} ended with exit code {code}")
        self._on_channel_end(error or WorkerLostError(f"worker {self.name} has ended"))
        if not self.ready.done():
            self._give_up(
                start_error(
                    self.spec, error.message if error else f"it ended with exit code {code}"
                )
            )
        await self._tasks.cancel()
        if self.state != "ended":
            self._set_state("ended", self.reason if error is None else error.message)
        return None if self.is_discarded else error

    async def stop(self) -> None:
        """Shut down: ask, wait, terminate, kill. Returns when all its processes have ended."""
        process = self._process
        if process is None:
            return
        self.is_stopping = True
        self.drain("it was asked to stop")
        for step in (lambda: self._tasks.spawn(self._shutdown()), process.terminate, process.kill):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.spec.shutdown_seconds):
                    step()
                    await process.wait()
                    break
        await self.wait()

    async def _shutdown(self) -> None:
        with contextlib.suppress(WorkerError):
            await self._channel.request("shutdown", {})
