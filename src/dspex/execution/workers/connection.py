"""The parent's end of a channel: requests that are pending, and what comes in for them."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, cast

import msgspec

from dspex.errors import (
    AdapterError,
    BudgetError,
    CheckError,
    ConfigurationError,
    ConflictError,
    DefinitionError,
    DspexError,
    ExecutionError,
    FrameTooLargeError,
    InvalidError,
    MediaError,
    ModelError,
    NotFoundError,
    NotJsonError,
    ToolError,
    WorkerError,
    WorkerLostError,
    WorkerProtocolError,
    WorkerTimeoutError,
)
from dspex.execution.workers.wire import JSON, LIMIT, Fault, FrameError, Incoming, Splitter, decode, encode

_ERRORS: Mapping[str, type[DspexError]] = {
    kind.code: kind
    for kind in (
        AdapterError,
        BudgetError,
        CheckError,
        ConfigurationError,
        ConflictError,
        DefinitionError,
        InvalidError,
        MediaError,
        ModelError,
        NotFoundError,
        NotJsonError,
        ToolError,
        WorkerError,
    )
} | {"oversize": FrameTooLargeError, "unknown_command": DefinitionError}

D = TypeVar("D", bound=DspexError)
_CHUNK = 1 << 17


class Caller(Protocol):
    """Who made a request: answers what the child asks meanwhile and hears its events. Called on the request's loop."""

    async def on_callback(self, command: str, args: Any) -> Any:  # noqa: ANN401  # any JSON value
        """Answer a callback with a JSON value. An error that is raised here is the error of the request."""
        ...

    def on_event(self, event: str, data: Any) -> None:  # noqa: ANN401
        """Take note of an event; returns at once. An error that is raised here is the error of the request."""
        ...


class Deaf:
    """A caller that hears nothing and refuses every callback."""

    __slots__ = ()

    async def on_callback(self, command: str, args: Any) -> Any:  # noqa: ANN401
        """Refuse."""
        raise WorkerProtocolError(f"the worker asked for {command!r} in a request that takes no callbacks")

    def on_event(self, event: str, data: Any) -> None:  # noqa: ANN401
        """Do nothing."""


@dataclass(slots=True, eq=False)
class _Pending:
    """One request without a reply. It outlives its caller, so that its slot counts until the child is free."""

    future: asyncio.Future[Any]
    caller: Caller
    is_abandoned: bool = False
    callbacks: set[asyncio.Task[None]] = field(default_factory=set)
    errors: dict[int, BaseException] = field(default_factory=dict)


class Connection(asyncio.BufferedProtocol):
    """Requests over one channel, any number at a time. Owned by one event loop.

    Every request ends: with its reply, at its deadline, or with the channel. A message that the protocol does not
    know ends the channel, because nothing that follows can be trusted.
    """

    def __init__(
        self,
        *,
        on_free: Callable[[], None] = lambda: None,
        on_broken: Callable[[WorkerError], None] = lambda _: None,
        limit: int = LIMIT,
    ) -> None:
        """Take who hears of a reply that frees a slot, and of the end of the channel (once)."""
        self.codec = JSON
        self._limit = limit
        self._on_free = on_free
        self._on_broken = on_broken
        self._splitter = Splitter(limit)
        self._place = memoryview(bytearray(_CHUNK))
        self._pending: dict[int, _Pending] = {}
        self._last = 0
        self._transport: asyncio.Transport | None = None
        self._broken: WorkerError | None = None

    @property
    def pending(self) -> int:
        """How many requests have no reply yet, abandoned ones included."""
        return len(self._pending)

    @property
    def abandoned(self) -> set[int]:
        """The requests whose callers have gone and that the child has not answered yet."""
        return {number for number, item in self._pending.items() if item.is_abandoned}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # A stream transport, by how it is made; those of other event loops (uvloop) do not inherit from asyncio's.
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail everything that is pending."""
        self.fail(WorkerLostError("the worker ended"))

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where the next bytes go: always the same place, because a new one for each read costs more than it."""
        return self._place

    def buffer_updated(self, nbytes: int) -> None:
        """Take bytes from the child."""
        try:
            for codec, payload in self._splitter.feed(self._place[:nbytes]):
                self._take(decode(codec, payload))
                if self._broken is not None:
                    return
        except FrameError as error:
            self.fail(WorkerProtocolError(f"the worker sent bytes that are no frame: {error}"))
        except WorkerProtocolError as error:
            self.fail(error)

    def eof_received(self) -> bool:
        """Say what is wrong with an end inside a frame."""
        try:
            self._splitter.close()
        except FrameError as error:
            self.fail(WorkerLostError(f"the worker ended: {error}"))
        return False

    def fail(self, error: WorkerError) -> None:
        """End the channel: every pending request raises `error`, and so does every later one."""
        if self._broken is not None:
            return
        self._broken = error
        pending, self._pending = self._pending, {}
        for item in pending.values():
            for task in item.callbacks:
                task.cancel()
            if not item.future.done():
                item.future.set_exception(again(error))
        if self._transport is not None:
            self._transport.abort()
        self._on_broken(error)

    async def request(
        self,
        command: str,
        args: Mapping[str, Any],
        *,
        seconds: float | None = None,
        caller: Caller | None = None,
    ) -> Any:  # noqa: ANN401  # any JSON value
        """Send a request and return its reply.

        Cancelling it, or the end of `seconds`, tells the child to stop; its slot stays taken until the child does.

        Raises:
            WorkerTimeoutError: no reply came within `seconds`.
            WorkerLostError: the channel ended first.
            WorkerProtocolError: the child broke the protocol.
            NotJsonError: `args` hold what is no JSON value.
            DspexError: what the child or a callback answered, or the listener of an event raised.
        """
        if self._broken is not None or self._transport is None:
            raise again(self._broken or WorkerLostError("the worker has no channel yet"))
        self._last += 1
        number = self._last
        message = {"id": number, "cmd": command, "args": args, "deadline": seconds}
        frame = encode(message, codec=self.codec, limit=self._limit)
        pending = _Pending(asyncio.get_running_loop().create_future(), caller or Deaf())
        self._pending[number] = pending
        self._transport.write(frame)
        try:
            if seconds is None:
                return await pending.future
            async with asyncio.timeout(seconds):
                return await pending.future
        except TimeoutError:
            raise WorkerTimeoutError(f"the worker did not answer {command!r} within {seconds:g} s") from None
        finally:
            self._leave(number, pending)

    def _leave(self, number: int, pending: _Pending) -> None:
        for task in pending.callbacks:
            task.cancel()
        if not pending.future.done() or pending.future.cancelled():
            self._abandon(number, pending)
        elif not pending.future.cancelled():
            pending.future.exception()  # an error that met a caller who had gone is no unhandled one

    def _abandon(self, number: int, pending: _Pending) -> None:
        pending.is_abandoned = True
        if self._broken is None and number in self._pending:
            self._send({"id": 0, "cmd": "cancel", "args": {"id": number}})

    def _send(self, message: dict[str, Any]) -> None:
        if self._broken is None and self._transport is not None:
            self._transport.write(encode(message, codec=self.codec, limit=self._limit))

    def _take(self, message: Incoming) -> None:
        if message.id == 0:
            self._take_unasked(message)
            return
        pending = self._pending.get(message.id)
        if pending is None:
            if message.id > self._last or message.id < 0:
                raise WorkerProtocolError(f"the worker answered request {message.id}, which was never made")
        elif message.is_reply:
            del self._pending[message.id]
            self._reply(message, pending)
            self._on_free()
        elif pending.is_abandoned:
            return
        elif message.event is not msgspec.UNSET:
            self._tell(message, pending)
        else:
            self._call_back(message, pending)

    def _tell(self, message: Incoming, pending: _Pending) -> None:
        """Let the caller hear an event; a listener that fails ends its own request, and nothing else."""
        try:
            pending.caller.on_event(str(message.event), message.data)
        except Exception as error:  # noqa: BLE001  # it would end the channel, and with it what others wait for
            if not pending.future.done():
                pending.future.set_exception(_of_listener(error, str(message.event)))
            self._abandon(message.id, pending)

    def _take_unasked(self, message: Incoming) -> None:
        """Request 0 is the child's life: an error there is why it cannot serve; replies to `cancel` come there too."""
        if isinstance(message.error, Fault) and message.error.code != "cancelled":
            self.fail(WorkerLostError(f"the worker cannot serve: {message.error.message}", fault=message.error))

    def _reply(self, message: Incoming, pending: _Pending) -> None:
        if pending.future.done():
            return
        if isinstance(message.error, Fault):
            pending.future.set_exception(self._error(message.error, pending))
        else:
            pending.future.set_result(message.ok)

    def _error(self, fault: Fault, pending: _Pending) -> BaseException:
        if fault.call is not None and (cause := pending.errors.get(fault.call)) is not None:
            return cause
        kind = _ERRORS.get(fault.code, ExecutionError)
        text = fault.message if fault.type in {"", kind.__name__} else f"{fault.type}: {fault.message}"
        return kind(text, remote_type=fault.type, traceback=fault.traceback, remote_code=fault.code)

    def _call_back(self, message: Incoming, pending: _Pending) -> None:
        if message.cmd is msgspec.UNSET:
            raise WorkerProtocolError(f"callback {message.call} of request {message.id} names no command")
        task = asyncio.get_running_loop().create_task(self._answer(message, pending))
        pending.callbacks.add(task)
        task.add_done_callback(pending.callbacks.discard)

    async def _answer(self, message: Incoming, pending: _Pending) -> None:
        assert isinstance(message.call, int) and isinstance(message.cmd, str)  # noqa: S101, PT018  # see _call_back
        try:
            answer = await pending.caller.on_callback(message.cmd, message.data)
            self._send({"call": message.call, "ok": answer})
        except Exception as error:  # noqa: BLE001  # whatever it is, it is the answer to the child
            pending.errors[message.call] = error
            code = error.code if isinstance(error, DspexError) else "callback"
            text = str(error).encode("utf-8", "backslashreplace").decode()
            self._send({"call": message.call, "error": {"code": code, "message": text}})


def _of_listener(error: Exception, event: str) -> DspexError:
    """Return the error of a listener as one of ours: another attempt would only meet the same listener again."""
    if isinstance(error, DspexError) and not error.is_retryable:
        return error
    found = ExecutionError(f"the listener of the event {event!r} failed: {type(error).__name__}: {error}")
    found.__cause__ = error
    return found


def again(error: D) -> D:
    """Return a copy: each caller raises its own, so that tracebacks do not grow into one another."""
    return type(error)(error.message, **error.context)
