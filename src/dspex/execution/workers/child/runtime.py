"""The loop of a child: requests in, replies out, callbacks to the parent in between, pings on a channel of their own.

The main thread only reads; requests run on threads of their own, so that `cancel` is heard while one computes. The end
of the channel is the end of the process: a child never outlives its parent.
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

from .calls import Call, Cancelled, RemoteError, Waiter
from .frames import JSON, MSGPACK, FrameError, Splitter, pack
from .place import place_of
from .watchdog import become_subreaper, descendants, kill

PROTOCOL = 1
_END_OF_CHANNEL = 0
_BAD_FRAME = 70
_HOST_FAILED = 71
_CHUNK = 1 << 17


Codec = tuple[Callable[[Any], bytes], Callable[[bytes], Any]]


def codecs() -> "dict[int, Codec]":
    """Return encode and decode by codec byte: those of msgspec where it is installed, else the standard library's."""

    def encode(value: Any) -> bytes:  # noqa: ANN401
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")

    try:
        import msgspec
    except ImportError:
        return {JSON: (encode, json.loads)}
    plain = msgspec.json.Encoder().encode

    def fast(value: Any) -> bytes:  # noqa: ANN401
        try:
            return plain(value)
        except UnicodeEncodeError:  # a lone surrogate, which UTF-8 does not have
            return encode(value)

    return {
        JSON: (fast, msgspec.json.Decoder().decode),
        MSGPACK: (msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder().decode),
    }


def serve(options: "dict[str, Any]", create: "Callable[[], Any]") -> int:
    """Create the host and serve it until the channel ends or the parent says `shutdown`."""
    become_subreaper()
    sockets = [socket.socket(fileno=options[name]) for name in ("channel", "health")]
    for item in sockets:
        item.set_inheritable(False)  # a process that the program starts must not keep the channel open
        item.settimeout(None)
    runtime = Runtime(sockets[0], options)
    threading.Thread(target=runtime.answer_pings, args=(sockets[1],), daemon=True, name="health").start()
    try:
        runtime.host = create()
    except Exception as error:  # noqa: BLE001  # whatever it is, the parent has to hear of it
        runtime.send({"id": 0, "error": fault(error)})
        return _HOST_FAILED
    gc.freeze()  # what was imported lasts: looking through it again and again would make calls wait
    return runtime.read()


def fault(error: BaseException) -> "dict[str, Any]":
    """Return an error as a message: a stable code where it has one, its text, and its traceback."""
    shown: dict[str, Any] = {
        "code": str(getattr(error, "code", "execution")),
        "type": type(error).__name__,
        "message": _text(error),
        "traceback": "".join(traceback.format_exception(error))[-20_000:],
    }
    seen: set[int] = set()  # `raise error from error` is a cause of itself
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        if isinstance(cause, RemoteError):
            return {**shown, "call": cause.call}
        seen.add(id(cause))
        cause = cause.__cause__ or cause.__context__
    return shown


def _text(error: BaseException) -> str:
    """Return the text of an error; one without a code is the user's, and has the line that it comes from."""
    text = str(error) or type(error).__name__
    place = "" if isinstance(getattr(error, "code", None), str) else place_of(error)
    return f"{text} ({place})" if place else text


class Runtime:
    """The channel, the calls in work, and the threads that carry them out."""

    def __init__(self, channel: socket.socket, options: "dict[str, Any]") -> None:
        """Take the channel; nothing is read before `read`."""
        self.host: Any = None
        self.served = 0
        self._channel = channel
        self._limit: int = options["limit"]
        self._concurrency: int = options["concurrency"]
        self._codecs = codecs()
        self._codec = JSON
        self._sending = threading.Lock()
        self._calls: dict[int, Call] = {}
        self._asked: dict[int, tuple[Waiter, Call]] = {}
        self._last_asked = 0
        self._counting = threading.Lock()
        self._work: queue.SimpleQueue[Call] = queue.SimpleQueue()
        self._threads = 0
        self._inline: dict[str, Callable[[dict[str, Any]], Any]] = {
            "handshake": self._handshake,
            "cancel": self._cancel,
            "ping": lambda _: self._state(),
            "stats": lambda _: {**self._state(), **self._host_stats()},
        }

    def send(self, *messages: "dict[str, Any]") -> None:
        """Write messages, none between them; threads take turns."""
        encode = self._codecs[self._codec][0]
        frames = b"".join([pack(self._codec, encode(message), self._limit) for message in messages])
        with self._sending:
            self._channel.sendall(frames)

    def read(self) -> int:
        """Read until the channel ends; returns the exit code after `shutdown`."""
        splitter, place = Splitter(self._limit), memoryview(bytearray(_CHUNK))
        while True:
            try:
                size = self._channel.recv_into(place)
            except OSError:
                size = 0
            if not size:
                end()
            try:
                messages = [self._codecs[codec][1](payload) for codec, payload in splitter.feed(place[:size])]
            except (FrameError, ValueError, KeyError) as error:
                print(f"the parent sent no frame: {error}", file=sys.stderr, flush=True)  # noqa: T201
                return _BAD_FRAME
            for message in messages:
                if message.get("cmd") == "shutdown":
                    kill(descendants(os.getpid()))
                    self.send({"id": message["id"], "ok": None})
                    return 0
                self._take(message)

    def _take(self, message: "dict[str, Any]") -> None:
        if "call" in message:
            self._answer(message)
            return
        name = message["cmd"]
        if name in self._inline:
            self._reply(message["id"], self._inline[name], message.get("args") or {})
        elif name not in self.host.commands:
            known = ", ".join(sorted([*self._inline, "shutdown", *self.host.commands]))
            text = f"there is no command {name!r}; commands are: {known}"
            self.send({"id": message["id"], "error": {"code": "unknown_command", "message": text}})
        else:
            self._start(Call(message, self.send, self._register))

    def _reply(self, number: int, function: "Callable[[dict[str, Any]], Any]", args: "dict[str, Any]") -> None:
        try:
            self.send({"id": number, "ok": function(args)})
        except Exception as error:  # noqa: BLE001  # every error of a command is an answer
            self.send({"id": number, "error": fault(error)})

    def _start(self, call: Call) -> None:
        self._calls[call.id] = call
        if len(self._calls) > self._threads and self._threads < self._concurrency:
            self._threads += 1
            threading.Thread(target=self._carry_out, daemon=True, name=f"call-{self._threads}").start()
        self._work.put(call)

    def _carry_out(self) -> None:
        while True:
            call = self._work.get()
            try:
                try:
                    reply = self._outcome(call)
                finally:
                    call.end()
                self._finish(call, reply)
            except Cancelled:  # it struck between the handler and the reply
                call.end()
                self._finish(call, _cancelled())

    def _finish(self, call: Call, reply: "dict[str, Any]") -> None:
        if self._calls.pop(call.id, None) is None:
            return
        self.served += 1
        try:
            self.send(*call.attached, {"id": call.id, **reply})
        except (TypeError, ValueError, OverflowError, RecursionError) as error:  # not JSON, or too long for a frame
            self.send({"id": call.id, "error": {**fault(error), "code": getattr(error, "kind", "not_json")}})

    def _outcome(self, call: Call) -> "dict[str, Any]":
        try:
            call.begin()
            return {"ok": self.host.commands[call.command](call, call.args)}
        except Cancelled:
            return _cancelled()
        except BaseException as error:  # noqa: BLE001  # also what a program raises to leave: it is its answer
            return _cancelled() if call.is_cancelled else {"error": fault(error)}

    def _register(self, waiter: Waiter, call: Call) -> int:
        with self._counting:
            self._last_asked += 1
            self._asked[self._last_asked] = (waiter, call)
            return self._last_asked

    def _answer(self, message: "dict[str, Any]") -> None:
        waiter, call = self._asked.pop(message["call"], (None, None))
        if waiter is None or call is None:
            return
        call.answered(message["call"])
        if "error" in message:
            found = message["error"]
            waiter.settle(None, RemoteError(found["code"], found["message"], message["call"]))
        else:
            waiter.settle(message.get("ok"))

    def _cancel(self, args: "dict[str, Any]") -> bool:
        call = self._calls.get(args["id"])
        for number in call.cancel() if call is not None else ():
            self._asked.pop(number, None)  # the parent has no answer any more
        return call is not None

    def _handshake(self, args: "dict[str, Any]") -> "dict[str, Any]":
        if args.get("protocol") != PROTOCOL:
            raise ValueError(f"the parent speaks protocol {args.get('protocol')!r}, this child speaks {PROTOCOL}")
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
        found = getattr(self.host, "stats", None)
        return found() if found is not None else {}

    def _state(self) -> "dict[str, Any]":
        return {"busy": len(self._calls), "served": self.served, "memory": memory()}

    def answer_pings(self, health: socket.socket) -> None:
        """Answer every ping on its own channel, however busy the calls are."""
        splitter, (encode, decode) = Splitter(1 << 16), self._codecs[JSON]
        while data := health.recv(4096):
            for _, payload in splitter.feed(data):
                health.sendall(pack(JSON, encode({"id": decode(payload)["id"], "ok": self._state()})))
        end()


def _cancelled() -> "dict[str, Any]":
    return {"error": {"code": "cancelled", "message": "the call was cancelled"}}


def memory() -> int:
    """Return the resident memory of this process in bytes: now on Linux, at its highest elsewhere."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def end() -> None:
    """End this process and, where it leads its own group, everything that it started."""
    kill(descendants(os.getpid()))  # also those that have left the group
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(_END_OF_CHANNEL)
