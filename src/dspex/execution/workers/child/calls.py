"""A running request in a child, as the host sees it."""

import ctypes
import threading
from collections.abc import Callable
from typing import Any


class Cancelled(BaseException):
    """The parent cancelled the call. Not an `Exception`, so that programs do not catch it."""


class RemoteError(Exception):
    """The parent failed to answer a callback; `call` tells the parent which callback it was."""

    def __init__(self, code: str, message: str, call: int) -> None:
        super().__init__(message)
        self.code = code
        self.call = call


class Waiter:
    """A future for one waiting thread, with a lock because conditions cost more."""

    __slots__ = ("_answer", "_error", "_lock", "is_done")

    def __init__(self) -> None:
        self.is_done = False
        self._answer: Any = None
        self._error: BaseException | None = None
        self._lock = threading.Lock()
        self._lock.acquire()

    def settle(self, answer: object, error: "BaseException | None" = None) -> None:
        """Set the answer or the error; only the first call counts."""
        if not self.is_done:
            self.is_done, self._answer, self._error = True, answer, error
            self._lock.release()

    def result(self) -> Any:
        """Wait for the answer and return it, or raise the error."""
        self._lock.acquire()
        if self._error is not None:
            raise self._error
        return self._answer


class ChildCall:
    """A running request. Its methods may be used from any thread that the host starts for it."""

    def __init__(
        self,
        request: "dict[str, Any]",
        send: "Callable[..., None]",
        register_callback: "Callable[..., int]",
    ) -> None:
        """Take the request, and the functions that send a message and register a callback."""
        self.id: int = request["id"]
        self.command: str = request["cmd"]
        self.args: dict[str, Any] = request.get("args") or {}
        self.seconds: float | None = request.get("deadline")
        self.is_cancelled = False
        self._send = send
        self._register_callback = register_callback
        self._lock = threading.Lock()
        self._callbacks: dict[int, Waiter] = {}
        self._thread: int | None = None
        self.attachments: list[dict[str, Any]] = []

    def emit(self, event: str, data: object) -> None:
        """Send an event (`stream`, `progress`, `log`) to the caller."""
        self._send({"id": self.id, "event": event, "data": data})

    def attach(self, event: str, data: object) -> None:
        """Send an event together with the reply, just before it."""
        self.attachments.append({"id": self.id, "event": event, "data": data})

    def callback(self, command: str, args: "dict[str, Any]") -> Any:
        """Ask the parent and wait for its answer.

        Raises:
            RemoteError: the parent could not answer.
            Cancelled: the call was cancelled meanwhile.
        """
        waiter = Waiter()
        with self._lock:
            if self.is_cancelled:
                raise Cancelled
            number = self._register_callback(waiter, self)
            self._callbacks[number] = waiter
        self._send({"id": self.id, "call": number, "cmd": command, "data": args})
        return waiter.result()

    def forget_callback(self, number: int) -> None:
        """Remove a callback that was answered."""
        with self._lock:
            self._callbacks.pop(number, None)

    def cancel(self) -> "list[int]":
        """Cancel the call: fail its pending callbacks, or interrupt its code if there are none.

        Returns the numbers of these callbacks.
        """
        with self._lock:
            if self.is_cancelled:
                return []
            self.is_cancelled = True
            callbacks, self._callbacks = self._callbacks, {}
            if not callbacks and self._thread is not None:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(self._thread), ctypes.py_object(Cancelled)
                )
        for waiter in callbacks.values():
            waiter.settle(None, Cancelled())
        return list(callbacks)

    def begin(self) -> None:
        """Record the thread that runs the call.

        Raises:
            Cancelled: the call was cancelled before it started.
        """
        with self._lock:
            if self.is_cancelled:
                raise Cancelled
            self._thread = threading.get_ident()

    def end(self) -> None:
        """Detach the thread, so that `cancel` no longer interrupts it."""
        with self._lock:
            self._thread = None
