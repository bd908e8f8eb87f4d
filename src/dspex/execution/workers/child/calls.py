"""One request that a child is carrying out, as its host sees it."""

import ctypes
import threading
from collections.abc import Callable
from typing import Any


class Cancelled(BaseException):
    """The parent wants the call to end. No `Exception`, so that a program's own handlers let it pass."""


class RemoteError(Exception):
    """The parent could not answer a callback; `call` tells it which of its own errors this was."""

    def __init__(self, code: str, message: str, call: int) -> None:
        super().__init__(message)
        self.code = code
        self.call = call


class Waiter:
    """An answer to come, for one thread: a future that costs a lock instead of a condition."""

    __slots__ = ("_answer", "_error", "_lock", "is_done")

    def __init__(self) -> None:
        self.is_done = False
        self._answer: Any = None
        self._error: BaseException | None = None
        self._lock = threading.Lock()
        self._lock.acquire()

    def settle(self, answer: object, error: "BaseException | None" = None) -> None:
        """Set the answer or the error; the first one counts."""
        if not self.is_done:
            self.is_done, self._answer, self._error = True, answer, error
            self._lock.release()

    def result(self) -> Any:  # noqa: ANN401  # any JSON value
        """Wait and return the answer, or raise the error."""
        self._lock.acquire()
        if self._error is not None:
            raise self._error
        return self._answer


class Call:
    """A request in work. Its methods may be used from any thread that the host starts for it."""

    def __init__(self, request: "dict[str, Any]", send: "Callable[..., None]", ask: "Callable[..., int]") -> None:
        """Take the request, and the runtime's ways to send a message and to register a callback."""
        self.id: int = request["id"]
        self.command: str = request["cmd"]
        self.args: dict[str, Any] = request.get("args") or {}
        self.seconds: float | None = request.get("deadline")
        self.is_cancelled = False
        self._send = send
        self._ask = ask
        self._lock = threading.Lock()
        self._waiting: dict[int, Waiter] = {}
        self._thread: int | None = None
        self.attached: list[dict[str, Any]] = []

    def emit(self, event: str, data: object) -> None:
        """Send an event (`stream`, `progress`, `log`) to the caller."""
        self._send({"id": self.id, "event": event, "data": data})

    def attach(self, event: str, data: object) -> None:
        """Let an event go out together with the reply, before it."""
        self.attached.append({"id": self.id, "event": event, "data": data})

    def callback(self, command: str, args: "dict[str, Any]") -> Any:  # noqa: ANN401  # any JSON value
        """Ask the parent and wait for its answer.

        Raises:
            RemoteError: the parent could not answer.
            Cancelled: the call was cancelled meanwhile.
        """
        waiter = Waiter()
        with self._lock:
            if self.is_cancelled:
                raise Cancelled
            number = self._ask(waiter, self)
            self._waiting[number] = waiter
        self._send({"id": self.id, "call": number, "cmd": command, "data": args})
        return waiter.result()

    def answered(self, number: int) -> None:
        """Forget a callback whose answer has come."""
        with self._lock:
            self._waiting.pop(number, None)

    def cancel(self) -> "list[int]":
        """End the call: callbacks in flight fail, and code that runs without one is interrupted where it is.

        Returns the numbers of these callbacks.
        """
        with self._lock:
            if self.is_cancelled:
                return []
            self.is_cancelled = True
            waiting, self._waiting = self._waiting, {}
            if not waiting and self._thread is not None:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._thread), ctypes.py_object(Cancelled))
        for waiter in waiting.values():
            waiter.settle(None, Cancelled())
        return list(waiting)

    def begin(self) -> None:
        """Note the thread that carries the call out.

        Raises:
            Cancelled: the call was cancelled before it began.
        """
        with self._lock:
            if self.is_cancelled:
                raise Cancelled
            self._thread = threading.get_ident()

    def end(self) -> None:
        """Note that the thread is done: no interruption reaches it from here on."""
        with self._lock:
            self._thread = None
