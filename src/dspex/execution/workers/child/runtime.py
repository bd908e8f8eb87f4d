"""The loop of a child: requests, replies and callbacks on one channel, pings on another.

The main thread only reads; requests run on other threads, so that `cancel` arrives while they
compute. The process ends with the channel: a child never outlives its parent.
"""

import gc
import json
import os
import platform
import queue
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any

from .calls import Cancelled, ChildCall, RemoteError, Waiter
from .frames import JSON, MSGPACK, FrameError, FrameSplitter, pack
from .place import frames_of, place_of
from .watchdog import become_subreaper, descendants, kill

PROTOCOL = 1
_END_OF_CHANNEL = 0
_BAD_FRAME = 70
_HOST_FAILED = 71
_CHUNK = 1 << 17


Codec = tuple[Callable[[Any], bytes], Callable[[bytes], Any]]


def codecs() -> "dict[int, Codec]":
    """Return encode and decode by codec byte: msgspec if installed, else the standard library."""

    def encode(value: Any) -> bytes:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(
            "utf-8", "replace"
        )

    try:
        import msgspec
    except ImportError:
        return {JSON: (encode, json.loads)}
    msgspec_encode = msgspec.json.Encoder().encode

    def encode_with_msgspec(value: Any) -> bytes:
        try:
            return msgspec_encode(value)
        except UnicodeEncodeError:  # a lone surrogate, which UTF-8 cannot encode
            return encode(value)

    return {
        JSON: (encode_with_msgspec, msgspec.json.Decoder().decode),
        MSGPACK: (msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder().decode),
    }


def serve(options: "dict[str, Any]", create: "Callable[[], Any]") -> int:
    """Create the host and serve it until the channel ends or the parent sends `shutdown`."""
    become_subreaper()
    sockets = [socket.socket(fileno=options[name]) for name in ("channel", "health")]
    for item in sockets:
        # processes that the program starts must not keep the channel open
        item.set_inheritable(False)
        item.settimeout(None)
    runtime = Runtime(sockets[0], options)
    threading.Thread(
        target=runtime.answer_pings, args=(sockets[1],), daemon=True, name="health"
    ).start()
    try:
        runtime.host = create()
    except Exception as error:  # noqa: BLE001  # report every error to the parent
        runtime.send({"id": 0, "error": fault(error)})
        return _HOST_FAILED
    gc.freeze()  # imported modules stay: scanning them in every collection would delay calls
    return runtime.read()


def fault(error: BaseException) -> "dict[str, Any]":
    """Return an error as a message: its stable code if it has one, its text and its traceback."""
    message: dict[str, Any] = {
        "code": str(getattr(error, "code", "execution")),
        "type": type(error).__name__,
        "message": _text(error),
        "traceback": "".join(traceback.format_exception(error))[-20_000:],
        "frames": frames_of(error),
    }
    visited: set[int] = set()  # after `raise error from error`, an error is its own cause
    cause: BaseException | None = error
    while cause is not None and id(cause) not in visited:
        if isinstance(cause, RemoteError):
            return {**message, "call": cause.call}
        visited.add(id(cause))
        cause = cause.__cause__ or cause.__context__
    return message


def _text(error: BaseException) -> str:
    """Return the text of an error; user errors (without a code) get the line that raised them."""
    text = str(error) or type(error).__name__
    place = "" if isinstance(getattr(error, "code", None), str) else place_of(error)
    return f"{text} ({place})" if place else text


class Runtime:
    """The channel, the running calls, and the threads that run them."""

    def __init__(self, channel: socket.socket, options: "dict[str, Any]") -> None:
        """Take the channel; `read` reads from it."""
        self.host: Any = None
        self.served = 0
        self._channel = channel
        self._limit: int = options["limit"]
        self._concurrency: int = options["concurrency"]
        self._codecs = codecs()
        self._codec = JSON
        self._send_lock = threading.Lock()
        self._calls: dict[int, ChildCall] = {}
        self._callbacks: dict[int, tuple[Waiter, ChildCall]] = {}
        self._last_callback = 0
        self._callback_lock = threading.Lock()
        self._queue: queue.SimpleQueue[ChildCall] = queue.SimpleQueue()
        self._threads = 0
        self._builtin_commands: dict[str, Callable[[dict[str, Any]], Any]] = {
            "handshake": self._handshake,
            "cancel": self._cancel,
            "ping": lambda _: self._state(),
            "stats": lambda _: {**self._state(), **self._host_stats()},
        }

    def send(self, *messages: "dict[str, Any]") -> None:
        """Write messages without interleaving those of other threads."""
        encode = self._codecs[self._codec][0]
        frames = b"".join([pack(self._codec, encode(message), self._limit) for message in messages])
        with self._send_lock:
            self._channel.sendall(frames)

    def read(self) -> int:
        """Read until the channel ends; returns the exit code after `shutdown`."""
        splitter, buffer = FrameSplitter(self._limit), memoryview(bytearray(_CHUNK))
        while True:
            try:
                size = self._channel.recv_into(buffer)
            except OSError:
                size = 0
            if not size:
                end_process()
            try:
                messages = [
                    self._codecs[codec][1](payload)
                    for codec, payload in splitter.feed(buffer[:size])
                ]
            except (FrameError, ValueError, KeyError) as error:
                print(  # noqa: T201
                    f"the parent sent bytes that are not a frame: {error}",
                    file=sys.stderr,
                    flush=True,
                )
                return _BAD_FRAME
            for message in messages:
                if message.get("cmd") == "shutdown":
                    kill(descendants(os.getpid()))
                    self.send({"id": message["id"], "ok": None})
                    return 0
                self._handle(message)

    def _handle(self, message: "dict[str, Any]") -> None:
        if "call" in message:
            self._settle_callback(message)
            return
        name = message["cmd"]
        if name in self._builtin_commands:
            self._reply(message["id"], self._builtin_commands[name], message.get("args") or {})
        elif name not in self.host.commands:
            names = ", ".join(sorted([*self._builtin_commands, "shutdown", *self.host.commands]))
            text = f"there is no command {name!r}; commands are: {names}"
            self.send({"id": message["id"], "error": {"code": "unknown_command", "message": text}})
        else:
            self._start(ChildCall(message, self.send, self._register))

    def _reply(
        self, number: int, function: "Callable[[dict[str, Any]], Any]", args: "dict[str, Any]"
    ) -> None:
        try:
            self.send({"id": number, "ok": function(args)})
        except Exception as error:  # noqa: BLE001  # every error of a command is a reply
            self.send({"id": number, "error": fault(error)})

    def _start(self, call: ChildCall) -> None:
        self._calls[call.id] = call
        if len(self._calls) > self._threads and self._threads < self._concurrency:
            self._threads += 1
            threading.Thread(
                target=self._run_calls, daemon=True, name=f"call-{self._threads}"
            ).start()
        self._queue.put(call)

    def _run_calls(self) -> None:
        while True:
            call = self._queue.get()
            try:
                try:
                    reply = self._run_call(call)
                finally:
                    call.end()
                self._finish(call, reply)
            except Cancelled:  # cancelled between the handler and the reply
                call.end()
                self._finish(call, _cancelled())

    def _finish(self, call: ChildCall, reply: "dict[str, Any]") -> None:
        if self._calls.pop(call.id, None) is None:
            return
        self.served += 1
        try:
            self.send(*call.attachments, {"id": call.id, **reply})
        except (
            TypeError,
            ValueError,
            OverflowError,
            RecursionError,
        ) as error:  # not JSON, or too large for a frame
            self.send(
                {
                    "id": call.id,
                    "error": {**fault(error), "code": getattr(error, "kind", "not_json")},
                }
            )

    def _run_call(self, call: ChildCall) -> "dict[str, Any]":
        try:
            call.begin()
            return {"ok": self.host.commands[call.command](call, call.args)}
        except Cancelled:
            return _cancelled()
        except BaseException as error:  # noqa: BLE001  # SystemExit too: it is the program's reply
            return _cancelled() if call.is_cancelled else {"error": fault(error)}

    def _register(self, waiter: Waiter, call: ChildCall) -> int:
        with self._callback_lock:
            self._last_callback += 1
            self._callbacks[self._last_callback] = (waiter, call)
            return self._last_callback

    def _settle_callback(self, message: "dict[str, Any]") -> None:
        waiter, call = self._callbacks.pop(message["call"], (None, None))
        if waiter is None or call is None:
            return
        call.forget_callback(message["call"])
        if "error" in message:
            reported = message["error"]
            waiter.settle(None, RemoteError(reported["code"], reported["message"], message["call"]))
        else:
            waiter.settle(message.get("ok"))

    def _cancel(self, args: "dict[str, Any]") -> bool:
        call = self._calls.get(args["id"])
        for number in call.cancel() if call is not None else ():
            self._callbacks.pop(number, None)  # the parent will not answer it
        return call is not None

    def _handshake(self, args: "dict[str, Any]") -> "dict[str, Any]":
        if args.get("protocol") != PROTOCOL:
            raise ValueError(
                f"the parent speaks protocol {args.get('protocol')!r}, this child speaks {PROTOCOL}"
            )
        self._codec = args.get("codec", JSON) if args.get("codec") in self._codecs else JSON
        return {
            "protocol": PROTOCOL,
            "pid": os.getpid(),
            "python": platform.python_version(),
            "codecs": sorted(self._codecs),
            "commands": sorted(self.host.commands),
            **self.host.describe(),
        }

    def _host_stats(self) -> "dict[str, Any]":
        stats = getattr(self.host, "stats", None)
        return stats() if stats is not None else {}

    def _state(self) -> "dict[str, Any]":
        return {"busy": len(self._calls), "served": self.served, "memory": memory()}

    def answer_pings(self, health: socket.socket) -> None:
        """Answer pings on their own channel, even while calls are busy."""
        splitter, (encode, decode) = FrameSplitter(1 << 16), self._codecs[JSON]
        while data := health.recv(4096):
            for _, payload in splitter.feed(data):
                health.sendall(
                    pack(JSON, encode({"id": decode(payload)["id"], "ok": self._state()}))
                )
        end_process()


def _cancelled() -> "dict[str, Any]":
    return {"error": {"code": "cancelled", "message": "the call was cancelled"}}


def memory() -> int:
    """Return the resident memory of this process in bytes: current on Linux, peak elsewhere."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def end_process() -> None:
    """End this process, its descendants and, if it leads one, its process group."""
    kill(descendants(os.getpid()))  # also descendants that left the group
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(_END_OF_CHANNEL)
