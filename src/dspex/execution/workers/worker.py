"""One worker: a child process that introduced itself, answers requests, and is watched."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any, Literal

from dspex.errors import DspexError, WorkerError, WorkerLostError, WorkerProtocolError, WorkerStartError
from dspex.execution.workers.connection import Caller, Connection
from dspex.execution.workers.loaded import LoadedPrograms
from dspex.execution.workers.process import ChildProcess, start_error
from dspex.execution.workers.spec import WorkerSpec
from dspex.execution.workers.wire import JSON, PROTOCOL
from dspex.telemetry import Event, Observer

WorkerState = Literal["starting", "ready", "draining", "lost", "ended"]
MISSED_PINGS = 3
_HARD_LIMIT = 1.5  # times the ceiling: a worker is drained above the ceiling, and killed above this


class Worker:
    """A supervised child. `start` spawns it, `ready` is done when it introduced itself, `wait` returns at its end."""

    def __init__(
        self,
        name: str,
        spec: WorkerSpec,
        *,
        run: str,
        observer: Observer,
        on_change: Callable[["Worker"], None] = lambda _: None,
    ) -> None:
        """Take what to run; `on_change` hears of every change of state and every freed slot."""
        self.name = name
        self.spec = spec
        self.state: WorkerState = "starting"
        self.about: dict[str, Any] = {}
        self.loaded = LoadedPrograms(spec.program_limit)
        self._unloading: dict[str, asyncio.Task[None]] = {}
        self.served = 0
        self.memory = 0
        self.reason = ""
        self.failure: WorkerError | None = None
        self._run = run
        self._observer = observer
        self._on_change = on_change
        self._channel = Connection(on_free=self._freed, on_broken=self._broken, limit=spec.frame_limit)
        self._health = Connection(on_broken=self._broken)
        self._process: ChildProcess | None = None
        self._missed = 0
        self._reserved = 0
        self.is_stopping = False
        self.is_discarded = False
        self._tasks: set[asyncio.Task[None]] = set()
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def pid(self) -> int | None:
        """The process id, None before the start."""
        return self._process.pid if self._process else None

    @property
    def busy(self) -> int:
        """How many slots are taken, those of reserved and of abandoned calls included."""
        return self._channel.pending + self._reserved

    @property
    def has_slot(self) -> bool:
        """Whether it takes another call."""
        return self.state == "ready" and self.busy < self.spec.concurrency

    def reserve(self) -> None:
        """Take a slot for a call that begins soon; `release` gives it back."""
        self._reserved += 1

    def release(self) -> None:
        """Give back a reserved slot: the call begins now, or never."""
        self._reserved -= 1

    async def start(self) -> None:
        """Spawn the process; returns before it is ready.

        Raises:
            WorkerStartError: the interpreter cannot be run.
        """
        try:
            self._process = await ChildProcess.start(
                self.spec, run=self._run, channel=self._channel, health=self._health, on_line=self._printed
            )
        except WorkerStartError as error:
            self._give_up(error)
            raise
        self._spawn(self._introduce())

    def _spawn(self, coroutine: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _introduce(self) -> None:
        hello = {"protocol": PROTOCOL, "codec": self.spec.codec}
        try:
            about = await self._channel.request("handshake", hello, seconds=self.spec.start_seconds)
            if not isinstance(about, dict) or about.get("protocol") != PROTOCOL:
                raise WorkerProtocolError(f"the child introduced itself as {about!r}, not with protocol {PROTOCOL}")
        except DspexError as error:
            self._give_up(start_error(self.spec, error.message))
            return
        self.about, self.served = about, 0
        self._channel.codec = self.spec.codec if self.spec.codec in about.get("codecs", ()) else JSON
        self._become("ready", f"python {about.get('python')}")
        if not self.ready.done():
            self.ready.set_result(None)

    def _give_up(self, error: WorkerError) -> None:
        self.failure = error
        if not self.ready.done():
            self.ready.set_exception(error)
            self.ready.exception()  # whoever waits for it sees it; nobody has to
        self.kill(error.message)

    def _become(self, state: WorkerState, why: str) -> None:
        self.state, self.reason = state, why
        self._say("worker", f"worker {self.name} is {state}: {why}", state=state, pid=self.pid)
        self._on_change(self)

    def _say(self, name: Literal["worker", "log"], message: str, **attributes: object) -> None:
        self._observer.on_event(Event(name=name, message=message, attributes={"worker": self.name, **attributes}))

    def _printed(self, stream: str, line: str) -> None:
        self._say("log", line, stream=stream)

    def _freed(self) -> None:
        self.served += 1
        limit = self.spec.request_limit
        if self.state == "ready" and limit is not None and self.served >= limit:
            self._become("draining", f"it has served {limit} requests")
        else:
            self._on_change(self)

    def _broken(self, error: WorkerError) -> None:
        """A channel ended. A process that still runs without it is of no use."""
        if self.failure is None and not self.is_stopping:
            self.failure = error
        self._channel.fail(error)
        self._health.fail(error)
        if self._process is not None and not self.is_stopping:
            self._process.kill()
        if self.state in {"starting", "ready", "draining"} and not self.is_stopping:
            self._become("lost", error.message)

    async def call(
        self, command: str, args: Mapping[str, Any], *, seconds: float | None = None, caller: Caller | None = None
    ) -> Any:  # noqa: ANN401  # any JSON value
        """Make one request; see `Connection.request`. A child that does not stop when it is told to is killed."""
        try:
            return await self._channel.request(command, args, seconds=seconds, caller=caller)
        except BaseException:
            if self._channel.abandoned and self.state != "ended":
                self._spawn(self._free_or_kill())
            raise

    async def load(self, handle: str, args: Mapping[str, Any], *, seconds: float | None = None) -> None:
        """Create a program here where it is not yet; those that nobody has asked for the longest go for it.

        Raises:
            DspexError: what the child answered.
        """
        if (unloading := self._unloading.get(handle)) is not None:
            await asyncio.wait({unloading})  # the child runs commands side by side: a create may overtake a delete
        if handle not in self.loaded:
            await self.call("create_program", args, seconds=seconds)
            self.loaded.add(handle)
            for surplus in self.loaded.take_surplus():
                unloading = self._unloading[surplus] = self._spawn(self._unload(surplus))
                unloading.add_done_callback(partial(self._unloaded, surplus))

    async def _unload(self, handle: str) -> None:
        with contextlib.suppress(DspexError):  # a worker that is lost holds nothing
            await self.call("delete_program", {"handle": handle})

    def _unloaded(self, handle: str, _task: asyncio.Task[None]) -> None:
        self._unloading.pop(handle, None)

    async def _free_or_kill(self) -> None:
        busy = self._channel.abandoned
        await asyncio.sleep(self.spec.cancel_seconds)
        if busy & self._channel.abandoned:
            self.discard("a cancelled call did not stop")

    def check(self) -> None:
        """Ping, and look at memory; call it once in each health interval.

        Three pings in a row without an answer end the worker. Above its memory ceiling it is drained, far above killed.
        """
        if self.state not in {"ready", "draining"} or self._process is None:
            return
        if self._missed >= MISSED_PINGS:
            self.kill(f"it missed {MISSED_PINGS} pings")
            return
        self._missed += 1
        self._spawn(self._ping())
        self._process.look()
        self.memory = self._process.memory() or self.memory
        limit = self.spec.memory_limit
        if limit is not None and self.memory > limit * _HARD_LIMIT:
            self.discard(f"it holds {self.memory >> 20} MiB of memory; the ceiling is {limit >> 20} MiB")
        elif limit is not None and self.memory > limit and self.state == "ready":
            self._become("draining", f"it holds {self.memory >> 20} MiB of memory; the ceiling is {limit >> 20} MiB")

    async def _ping(self) -> None:
        with contextlib.suppress(WorkerError):  # the end of the channel is told elsewhere
            answer = await self._health.request("ping", {})
            self._missed = 0
            if self._process is not None and self._process.memory() is None and isinstance(answer, dict):
                self.memory = int(answer.get("memory", 0))

    def drain(self, why: str) -> None:
        """Take no further calls."""
        if self.state in {"starting", "ready"}:
            self._become("draining", why)

    def discard(self, why: str) -> None:
        """Kill it for what a call did to it: by our own choice, so that its end counts as an ordered one."""
        self.is_discarded = True
        self.kill(why)

    def kill(self, why: str) -> None:
        """End it at once; the calls that it holds fail with a retryable error."""
        if self.state == "ended":
            return
        self.reason = why
        error = self.failure or WorkerLostError(f"worker {self.name} was killed: {why}")
        self._broken(error)
        if self._process is not None:
            self._process.kill()

    async def wait(self) -> WorkerError | None:
        """Wait for the end; returns why it ended, None after an ordered stop and where it was discarded."""
        if self._process is None:
            return self.failure
        code = await self._process.wait()
        error = self.failure
        if error is None and code != 0:
            error = WorkerLostError(f"worker {self.name} ended with exit code {code}")
        self._broken(error or WorkerLostError(f"worker {self.name} has ended"))
        if not self.ready.done():
            self._give_up(start_error(self.spec, error.message if error else f"it ended with exit code {code}"))
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self.state != "ended":
            self._become("ended", self.reason if error is None else error.message)
        return None if self.is_discarded else error

    async def stop(self) -> None:
        """End it in order: ask, wait, terminate, kill. Returns when nothing of it is left."""
        process = self._process
        if process is None:
            return
        self.is_stopping = True
        self.drain("it is asked to stop")
        for step in (self._ask_to_end, process.terminate, process.kill):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.spec.shutdown_seconds):
                    step()
                    await process.wait()
                    break
        await self.wait()

    def _ask_to_end(self) -> None:
        self._spawn(self._shutdown())

    async def _shutdown(self) -> None:
        with contextlib.suppress(WorkerError):
            await self._channel.request("shutdown", {})
