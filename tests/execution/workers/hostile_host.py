"""A worker host with misbehaving programs: a child loads it by path, and nothing imports it."""

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading

OPTIONS = json.loads(sys.argv[1]) if len(sys.argv) > 1 and sys.argv[1].startswith("{") else {}
CHANNEL, HEALTH = OPTIONS.get("channel", -1), OPTIONS.get("health", -1)


def create(config):
    return Host()


def write(data, descriptor=None):
    while data:
        data = data[os.write(CHANNEL if descriptor is None else descriptor, data) :]


def frame(message, codec=1):
    payload = message if isinstance(message, bytes) else json.dumps(message).encode()
    return struct.pack(">IB", len(payload) + 1, codec) + payload


def hang(_call=None):
    threading.Event().wait()


def sends(*messages, codec=1):
    """Return a program that writes frames and hangs."""

    def act(call):
        write(
            b"".join(
                frame(message(call) if callable(message) else message, codec)
                for message in messages
            )
        )
        hang()

    return act


def bytes_then(data, then=hang):
    def act(call):
        write(data)
        then(call)

    return act


def leave(_call):
    os._exit(0)


def close(*descriptors):
    def act(call):
        for descriptor in descriptors:
            os.close(descriptor)
        hang()

    return act


def half_a_reply_then_leave(call):
    whole = frame({"id": call.id, "ok": "x" * 1000})
    write(whole[:500])
    os._exit(0)


def reply_in_drops(call):
    for byte in frame({"id": call.id, "ok": "slow"}):
        write(bytes([byte]))
    hang()


def callbacks_without_end(call):
    write(
        b"".join(
            frame({"id": call.id, "call": 10**6 + n, "cmd": "lm", "data": {}}) for n in range(2000)
        )
    )
    return "asked"


def events_without_end(call):
    for n in range(20_000):
        call.emit("stream", n)
    return "told"


def fork_and_both_answer(call):
    if os.fork() == 0:
        write(frame({"id": call.id, "ok": "child"}))
        os._exit(0)
    hang()


def forks(call):
    for _ in range(20):
        if os.fork() == 0:
            signal.pause()
    return "forked"


def heir_of_the_channel(call):
    """Pass the channel on to a process that keeps running, so that it never ends."""
    os.set_inheritable(CHANNEL, True)
    subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"], close_fds=False)
    os._exit(0)


def fill(descriptor, data):
    def act(call):
        for _ in range(64):
            write(data, descriptor)
        return "filled"

    return act


def send_to_self(number):
    def act(call):
        os.kill(os.getpid(), number)
        hang()

    return act


def deaf_to_every_request(call):
    while True:
        try:
            threading.Event().wait(0.05)
        except BaseException:  # noqa: BLE001, S112
            continue


def hold(megabytes):
    def act(call):
        block = bytearray(megabytes << 20)
        block[::4096] = b"x" * len(block[::4096])
        hang()

    return act


def raises(make):
    def act(call):
        raise make()

    return act


class Unprintable(Exception):  # noqa: N818
    def __str__(self):
        raise RuntimeError("no text")


def recurse(call):
    return recurse(call)


def threads(call):
    for _ in range(50):
        threading.Thread(target=hang, daemon=True).start()
    return "started"


def spoil_the_channel(call):
    socket.socket(fileno=os.dup(CHANNEL)).settimeout(0)
    return "spoiled"


def spoil_the_process(call):
    os.environ.clear()
    os.chdir("/")
    sys.modules.pop("json", None)
    sys.stdout = sys.stderr = None
    json.__dict__["dumps"] = None
    return "spoiled"


def circular(call):
    value = []
    value.append(value)
    return value


ACTS = {
    "garbage": bytes_then(b"\xff" * 64),
    "a frame of no bytes": bytes_then(b"\0\0\0\0"),
    "an unknown codec": sends({"id": 1, "ok": 1}, codec=9),
    "a frame of 2 GiB announced": bytes_then(struct.pack(">IB", (1 << 31) - 1, 1)),
    "a truncated frame, then the end": bytes_then(struct.pack(">IB", 100, 1) + b"{", leave),
    "a truncated frame, then silence": bytes_then(struct.pack(">IB", 100, 1) + b"{"),
    "half a reply, then the end": half_a_reply_then_leave,
    "a reply byte by byte": reply_in_drops,
    "no JSON": sends(b"{no json"),
    "no object": sends([1, 2]),
    "no UTF-8": sends(b'{"id": 1, "ok": "\xff"}'),
    "nesting without end": sends(b'{"id": 1, "ok": ' + b"[" * 200_000),
    "a reply and an error": sends(lambda call: {"id": call.id, "ok": 1, "event": "x"}),
    "neither reply nor event": sends(lambda call: {"id": call.id}),
    "an id that is no number": sends({"id": "one", "ok": 1}),
    "an id from the future": sends({"id": 10**9, "ok": 1}),
    "a negative id": sends({"id": -1, "ok": 1}),
    "an id of 100 digits": sends(b'{"id": ' + b"9" * 100 + b', "ok": 1}'),
    "two replies": sends(
        lambda call: {"id": call.id, "ok": 1}, lambda call: {"id": call.id, "ok": 2}
    ),
    "an error of its life": sends({"id": 0, "error": {"code": "x", "message": "I resign"}}),
    "an error that is none": sends(lambda call: {"id": call.id, "error": "text"}),
    "a callback without a command": sends(lambda call: {"id": call.id, "call": 1}),
    "a callback of another call": sends({"id": 10**9, "call": 1, "cmd": "lm"}),
    "callbacks without end": callbacks_without_end,
    "events without end": events_without_end,
    "an event of 8 MiB": lambda call: call.emit("stream", "x" * (8 << 20)),
    "nan": lambda call: float("nan"),
    "a number of 70 bits": lambda call: 1 << 70,
    "a value that holds itself": circular,
    "an object": lambda call: object(),
    "closing the channel": close(CHANNEL),
    "closing the health channel": close(HEALTH),
    "closing both and its output": close(CHANNEL, HEALTH, 1, 2),
    "garbage on the health channel": lambda call: write(b"\xff" * 64, HEALTH) or hang(),
    "pongs that nobody asked for": lambda call: (
        write(frame({"id": 10**9, "ok": {}}), HEALTH) or hang()
    ),
    "a fork that answers, too": fork_and_both_answer,
    "forks that stay": forks,
    "an heir of its channel": heir_of_the_channel,
    "4 MiB of output without a line": fill(1, b"x" * 65536),
    "4 MiB of errors that are no text": fill(2, b"\xff\0" * 32768),
    "SIGSTOP": send_to_self(signal.SIGSTOP),
    "SIGKILL": send_to_self(signal.SIGKILL),
    "SIGSEGV": send_to_self(signal.SIGSEGV),
    "SIGTERM": send_to_self(signal.SIGTERM),
    "deaf to every request to stop": deaf_to_every_request,
    "a process that ends": leave,
    "SystemExit": raises(lambda: SystemExit(3)),
    "KeyboardInterrupt": raises(KeyboardInterrupt),
    "an error without a text": raises(Unprintable),
    "an error of 8 MiB": raises(lambda: ValueError("x" * (8 << 20))),
    "recursion without end": recurse,
    "memory far above the ceiling": hold(700),
    "threads that stay": threads,
    "a channel that does not wait": spoil_the_channel,
    "a spoiled process": spoil_the_process,
    "silence": hang,
}


class Host:
    def __init__(self):
        self.commands = {
            "echo": lambda call, args: args,
            "act": lambda call, args: ACTS[args["name"]](call),
        }

    def describe(self):
        return {}
