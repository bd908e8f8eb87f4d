"""The parent's end of a channel: sends requests and dispatches replies, events and callbacks."""

import asyncio
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

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
    InputError,
    MediaError,
    ModelError,
    NotFoundError,
    NotJsonError,
    StaleCodeError,
    ToolError,
    WaitingForAnswerError,
    WorkerError,
    WorkerLostError,
    WorkerProtocolError,
    WorkerTimeoutError,
)
from dspex.execution.workers.wire import (
    JSON,
    LIMIT,
    Fault,
    FrameError,
    FrameSplitter,
    Incoming,
    decode,
    encode,
)

_ERRORS: Mapping[str, type[DspexError]] = {
    kind.code: kind
    for kind in (
        AdapterError,
        BudgetError,
        CheckError,
        ConfigurationError,
        ConflictError,
        DefinitionError,
        InputError,
        MediaError,
        ModelError,
        NotFoundError,
        NotJsonError,
        StaleCodeError,
        ToolError,
        WaitingForAnswerError,
        WorkerError,
    )
} | {"oversize": FrameTooLargeError, "unknown_command": DefinitionError}

_CHUNK = 1 << 17


class CallHandler(Protocol):
    """Handles the callbacks and events of one request. Called on the event loop of the request."""

    async def on_callback(self, command: str, args: Any) -> Any:
        """Answer a callback with a JSON value. An error raised here fails the request."""
        ...

    def on_event(self, event: str, data: Any) -> None:
        """Handle an event without blocking. An error raised here fails the request."""
        ...


class SilentHandler:
    """Ignores events and refuses every callback."""

    async def on_callback(self, command: str, args: Any) -> Any:
        """Refuse."""
        raise WorkerProtocolError(
            f"the worker asked for {command!r} in a request that takes no callbacks"
        )

    def on_event(self, event: str, data: Any) -> None:
        """Do nothing."""


@dataclass(slots=True, eq=False)
class _Pending:
    """One request without a reply. Its slot stays taken until the child replies."""

    future: asyncio.Future[Any]
    handler: CallHandler
    is_abandoned: bool = False
    callbacks: set[asyncio.Task[None]] = field(default_factory=set)
    errors: dict[int, BaseException] = field(default_factory=dict)


class WorkerConnection(asyncio.BufferedProtocol):
    """Concurrent requests over one channel. Owned by one event loop.

    Every request ends: with its reply, at its deadline, or with the channel. A message that
    violates the protocol ends the channel, because the bytes after it cannot be trusted.
    """

    def __init__(
        self,
        *,
        on_slot_free: Callable[[], None] = lambda: None,
        on_end: Callable[[WorkerError], None] = lambda _: None,
        limit: int = LIMIT,
    ) -> None:
        """Call `on_slot_free` after each reply, and `on_end` once, when the channel ends."""
        self.codec = JSON
        self._limit = limit
        self._on_slot_free = on_slot_free
        self._on_end = on_end
        self._splitter = FrameSplitter(limit)
        self._buffer = memoryview(bytearray(_CHUNK))
        self._pending: dict[int, _Pending] = {}
        self._last_number = 0
        self._transport: asyncio.Transport | None = None
        self._failure: WorkerError | None = None

    @property
    def pending_count(self) -> int:
        """The number of requests without a reply, including abandoned ones."""
        return len(self._pending)

    @property
    def abandoned_requests(self) -> set[int]:
        """The numbers of unanswered requests whose callers have left."""
        return {number for number, item in self._pending.items() if item.is_abandoned}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # Always a stream transport; those of other event loops (uvloop) do not inherit from
        # asyncio's.
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail all pending requests."""
        self.fail(WorkerLostError("the worker ended"))

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return the buffer for the next bytes: always the same one, to avoid allocation."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Dispatch the messages in the bytes that the child sent."""
        try:
            for codec, payload in self._splitter.feed(self._buffer[:nbytes]):
                self._dispatch(decode(codec, payload))
                if self._failure is not None:
                    return
        except FrameError as error:
            self.fail(WorkerProtocolError(f"the worker sent bytes that are not a frame: {error}"))
        except WorkerProtocolError as error:
            self.fail(error)

    def eof_received(self) -> bool:
        """Fail the channel with a clear message if it ended inside a frame."""
        try:
            self._splitter.close()
        except FrameError as error:
            self.fail(WorkerLostError(f"the worker ended: {error}"))
        return False

    def fail(self, error: WorkerError) -> None:
        """End the channel: every pending and every later request raises `error`."""
        if self._failure is not None:
            return
        self._failure = error
        pending, self._pending = self._pending, {}
        for item in pending.values():
            for task in item.callbacks:
                task.cancel()
            if not item.future.done():
                item.future.set_exception(copy(error))  # tracebacks must not accumulate
        if self._transport is not None:
            self._transport.abort()
        self._on_end(error)

    async def request(
        self,
        command: str,
        args: Mapping[str, Any],
        *,
        seconds: float | None = None,
        handler: CallHandler | None = None,
    ) -> Any:
        """Send a request and return its reply.

        Cancellation or a timeout asks the child to stop; the slot stays taken until it has stopped.

        Raises:
            WorkerTimeoutError: no reply came within `seconds`.
            WorkerLostError: the channel ended first.
            WorkerProtocolError: the child broke the protocol.
            NotJsonError: `args` hold a value that JSON cannot represent.
            DspexError: the error that the child or a callback returned, or an event handler raised.
        """
        if self._failure is not None or self._transport is None:
            raise copy(self._failure or WorkerLostError("the worker has no channel yet"))
        self._last_number += 1
        number = self._last_number
        message = {"id": number, "cmd": command, "args": args, "deadline": seconds}
        frame = encode(message, codec=self.codec, limit=self._limit)
        pending = _Pending(asyncio.get_running_loop().create_future(), handler or SilentHandler())
        self._pending[number] = pending
        self._transport.write(frame)
        try:
            if seconds is None:
                return await pending.future
            async with asyncio.timeout(seconds):
                return await pending.future
        except TimeoutError:
            raise WorkerTimeoutError(
                f"the worker did not answer {command!r} within {seconds:g} s"
            ) from None
        finally:
            self._release(number, pending)

    def _release(self, number: int, pending: _Pending) -> None:
        for task in pending.callbacks:
            task.cancel()
        if not pending.future.done() or pending.future.cancelled():
            self._abandon(number, pending)
        elif not pending.future.cancelled():
            pending.future.exception()  # the caller has left: mark the error as handled

    def _abandon(self, number: int, pending: _Pending) -> None:
        pending.is_abandoned = True
        if self._failure is None and number in self._pending:
            self._send({"id": 0, "cmd": "cancel", "args": {"id": number}})

    def _send(self, message: dict[str, Any]) -> None:
        if self._failure is None and self._transport is not None:
            self._transport.write(encode(message, codec=self.codec, limit=self._limit))

    def _dispatch(self, message: Incoming) -> None:
        if message.id == 0:
            self._handle_channel_error(message)
            return
        pending = self._pending.get(message.id)
        if pending is None:
            if message.id > self._last_number or message.id < 0:
                raise WorkerProtocolError(
                    f"the worker answered request {message.id}, which was never made"
                )
        elif message.is_reply:
            del self._pending[message.id]
            self._settle(message, pending)
            self._on_slot_free()
        elif pending.is_abandoned:
            return
        elif message.event is not msgspec.UNSET:
            self._forward_event(message, pending)
        else:
            self._start_callback(message, pending)

    def _forward_event(self, message: Incoming, pending: _Pending) -> None:
        """Pass an event to the handler; a handler that raises fails its own request only."""
        try:
            pending.handler.on_event(str(message.event), message.data)
        except Exception as error:  # noqa: BLE001  # it would end all requests
            if not pending.future.done():
                pending.future.set_exception(_handler_error(error, str(message.event)))
            self._abandon(message.id, pending)

    def _handle_channel_error(self, message: Incoming) -> None:
        """Handle request 0: replies to `cancel`, and errors that mean the child cannot serve."""
        if isinstance(message.error, Fault) and message.error.code != "cancelled":
            self.fail(
                WorkerLostError(
                    f"the worker cannot serve: {message.error.message}", fault=message.error
                )
            )

    def _settle(self, message: Incoming, pending: _Pending) -> None:
        if pending.future.done():
            return
        if isinstance(message.error, Fault):
            pending.future.set_exception(self._error_from_fault(message.error, pending))
        else:
            pending.future.set_result(message.ok)

    def _error_from_fault(self, fault: Fault, pending: _Pending) -> BaseException:
        if fault.call is not None and (cause := pending.errors.get(fault.call)) is not None:
            return cause
        kind = _ERRORS.get(fault.code, ExecutionError)
        text = (
            fault.message if fault.type in {"", kind.__name__} else f"{fault.type}: {fault.message}"
        )
        return kind(
            text, remote_frames=fault.frames, remote_type=fault.type, traceback=fault.traceback
        )

    def _start_callback(self, message: Incoming, pending: _Pending) -> None:
        if message.cmd is msgspec.UNSET:
            raise WorkerProtocolError(
                f"callback {message.call} of request {message.id} has no command"
            )
        task = asyncio.get_running_loop().create_task(self._answer_callback(message, pending))
        pending.callbacks.add(task)
        task.add_done_callback(pending.callbacks.discard)

    async def _answer_callback(self, message: Incoming, pending: _Pending) -> None:
        # `_start_callback` has checked the fields
        assert isinstance(message.call, int) and isinstance(message.cmd, str)  # noqa: S101, PT018
        try:
            answer = await pending.handler.on_callback(message.cmd, message.data)
            self._send({"call": message.call, "ok": answer})
        except WaitingForAnswerError as error:
            if not pending.future.done():  # no code in the worker may go on without the answer
                pending.future.set_exception(error)
            self._abandon(message.id, pending)
        except Exception as error:  # noqa: BLE001  # every error is the answer to the child
            pending.errors[message.call] = error
            code = error.code if isinstance(error, DspexError) else "callback"
            text = str(error).encode("utf-8", "backslashreplace").decode()
            self._send({"call": message.call, "error": {"code": code, "message": text}})


def _handler_error(error: Exception, event: str) -> DspexError:
    """Return the error of an event handler as not retryable: a retry would fail the same way."""
    if isinstance(error, DspexError) and not error.is_retryable:
        return error
    failure = ExecutionError(
        f"the handler of the event {event!r} failed: {type(error).__name__}: {error}"
    )
    failure.__cause__ = error
    return failure
