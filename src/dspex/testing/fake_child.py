"""A worker host that misbehaves on request: a real process that can also write invalid bytes.

Start it like any host: `WorkerSpec(host=fake_child.PATH, interpreter=sys.executable)`. Standard
library only.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

PATH = Path(__file__)


def create(config: "dict[str, Any]") -> "FakeHost":
    """Return the host; `config` may have `fail` (do not start), `die` (exit) or `about`."""
    if "fail" in config:
        raise RuntimeError(config["fail"])
    if "die" in config:
        os._exit(config["die"])
    if "silence" in config:
        threading.Event().wait()
    if "raw" in config:
        write(bytes.fromhex(config["raw"]))
    return FakeHost(config)


def write(data: bytes) -> None:
    """Write raw bytes to the channel, without frames."""
    channel = json.loads(sys.argv[1])["channel"]
    while data:
        data = data[os.write(channel, data) :]


class FakeHost:
    """A host with a command for each correct or wrong behaviour of a worker."""

    def __init__(self, config: "dict[str, Any]") -> None:
        self._about = config.get("about", {})
        self._kept: list[bytearray] = []
        self._programs: dict[str, Any] = {}
        self.commands = {
            "echo": lambda call, args: args,
            "repeat": lambda call, args: [args["text"], args["text"]],
            "ask": self._ask,
            "create_program": self._create_program,
            "delete_program": lambda call, args: self._programs.pop(args["handle"]) and None,
            "programs": lambda call, args: sorted(self._programs),
            "run": lambda call, args: self._programs[args["name"]]["name"],
            "crash": self._crash,
            "exit": lambda call, args: sys.exit(args.get("code", 1)),
            "hang": self._hang,
            "spin": self._spin,
            "sleep": self._sleep,
            "leak": self._leak,
            "print": self._print,
            "emit": self._emit,
            "raise": self._raise,
            "raw": self._raw,
            "spawn": self._spawn,
            "escape": self._escape,
            "environment": lambda call, args: dict(os.environ),
            "unserializable": lambda call, args: 1 << 70 if args.get("huge") else object(),
            "stubborn": self._stubborn,
            "compute": self._compute,
            "swallow": self._swallow,
        }

    def describe(self) -> "dict[str, Any]":
        """Return extra fields of the handshake."""
        return dict(self._about)

    def _create_program(self, call: Any, args: "dict[str, Any]") -> str:
        self._programs[args["name"]] = args
        return str(args["name"])

    def _ask(self, call: Any, args: "dict[str, Any]") -> "list[Any]":
        return [call.callback(args["command"], {"value": value}) for value in args["values"]]

    def _crash(self, call: Any, args: "dict[str, Any]") -> None:
        if args.get("after") == "event":
            call.emit("progress", {"step": 1})
        if args.get("after") == "callback":
            call.callback("anything", {})
        if "half" in args:
            self._raw(call, {"pieces": [args["half"]]})
        os.kill(os.getpid(), args.get("signal", signal.SIGKILL))
        threading.Event().wait()  # the signal may reach another thread a moment later

    def _hang(self, call: Any, args: "dict[str, Any]") -> None:
        threading.Timer(
            0.05, call.emit, ("progress", "begun")
        ).start()  # while it hangs, not before
        threading.Event().wait()

    def _spin(self, call: Any, args: "dict[str, Any]") -> None:
        call.emit("progress", "begun")
        while True:
            pass

    def _sleep(self, call: Any, args: "dict[str, Any]") -> "dict[str, Any]":
        if "says" in args:
            call.emit("progress", args["says"])
        end = time.monotonic() + args["seconds"]
        while (remaining := end - time.monotonic()) > 0:
            threading.Event().wait(min(remaining, 0.05))
        return args

    def _stubborn(self, call: Any, args: "dict[str, Any]") -> None:
        has_emitted = False
        while True:
            try:
                if not has_emitted:
                    has_emitted = True
                    call.emit("progress", "begun")
                threading.Event().wait(0.05)
            except BaseException:  # noqa: BLE001, S112  # stubborn by intention
                continue

    def _compute(self, call: Any, args: "dict[str, Any]") -> int:
        """Compute in C for minutes, which blocks all threads of this process."""
        call.emit("progress", "begun")
        return sum(range(10**11))

    def _swallow(self, call: Any, args: "dict[str, Any]") -> str:
        try:
            return str(call.callback("anything", {}))
        except Exception:  # noqa: BLE001  # a program that hides the failure of its model
            return "swallowed"

    def _leak(self, call: Any, args: "dict[str, Any]") -> int:
        block = bytearray(args["bytes"])
        block[::4096] = b"x" * len(block[::4096])
        self._kept.append(block)
        return sum(len(item) for item in self._kept)

    def _print(self, call: Any, args: "dict[str, Any]") -> None:
        print(args["text"], flush=True)  # noqa: T201
        print(args["text"], file=sys.stderr, flush=True)  # noqa: T201
        os.write(1, b"written to descriptor 1\n")

    def _emit(self, call: Any, args: "dict[str, Any]") -> int:
        for item in args["items"]:
            call.emit(args.get("event", "stream"), item)
        return len(args["items"])

    def _raise(self, call: Any, args: "dict[str, Any]") -> None:
        error = ValueError(args["message"])
        raise error from error if args.get("by_itself") else None

    def _raw(self, call: Any, args: "dict[str, Any]") -> None:
        """Write raw bytes to the channel in pieces, then hang or exit if `then` says so."""
        for piece in args["pieces"]:
            write(bytes.fromhex(piece))
            threading.Event().wait(args.get("pause", 0))
        if args.get("then") == "hang":
            threading.Event().wait()
        if args.get("then") == "die":
            os._exit(0)

    def _escape(self, call: Any, args: "dict[str, Any]") -> int:
        """Start a grandchild like a daemon (the child exits, a new session); return its pid."""
        code = (
            "import os, sys, signal\n"
            "if os.fork(): os._exit(0)\n"
            "os.setsid()\n"
            "print(os.getpid(), flush=True)\n"
            "signal.pause()"
        )
        env: dict[str, str] | None = {} if args.get("clean") else None
        command = [sys.executable, "-c", code]
        with subprocess.Popen(  # noqa: S603
            command, env=env, stdout=subprocess.PIPE, text=True
        ) as process:
            return int(process.stdout.readline() if process.stdout is not None else 0)

    def _spawn(self, call: Any, args: "dict[str, Any]") -> int:
        """Start a long-lived grandchild, and return its pid."""
        return os.spawnv(
            os.P_NOWAIT, sys.executable, [sys.executable, "-c", "import signal; signal.pause()"]
        )
