"""The parent and a real child process: each call ends with a reply or a typed error, no leaks."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from dspex.errors import (
    DefinitionError,
    DspexError,
    ExecutionError,
    FrameTooLargeError,
    NotJsonError,
    ToolError,
    WorkerError,
    WorkerLostError,
    WorkerProtocolError,
    WorkerStartError,
    WorkerTimeoutError,
)
from dspex.execution.workers import PoolWorker
from dspex.execution.workers.child.frames import JSON, LIMIT, MSGPACK, pack
from dspex.execution.workers.child.runtime import Runtime
from dspex.execution.workers.orphans import run_mark
from dspex.telemetry import Collecting
from dspex.testing.processes import fake_worker, is_alive, open_resources, wait_until_ended
from tests.support.properties import examples
from tests.support.waiting import eventually

pytestmark = pytest.mark.bridge


@contextlib.asynccontextmanager
async def running(observer=None, config=None, **options):
    worker = PoolWorker(
        "w", fake_worker(config, **options), run=run_mark(), observer=observer or Collecting()
    )
    await worker.start()
    try:
        async with asyncio.timeout(20):
            await asyncio.shield(worker.ready)
            yield worker
    finally:
        await worker.stop()


@asynccontextmanager
async def open_worker(**options):
    """Open a worker, and check afterwards that no child, zombie or descriptor is left."""
    before = open_resources()
    async with running(**options) as worker:
        yield worker
    assert worker.busy == 0
    await asyncio.sleep(0)
    assert open_resources() == before


def frame(message):
    return pack(JSON, message if isinstance(message, bytes) else json.dumps(message).encode())


class Answering:
    """Answers callbacks with `answer` and records events."""

    def __init__(self, answer=None, listen=None):
        self.listen = listen
        self.events, self.asked = [], []
        self.began = asyncio.Event()
        self.answer = answer or (lambda args: args["value"] * 2)

    async def on_callback(self, command, args):
        self.began.set()
        self.asked.append((command, args))
        return self.answer(args)

    def on_event(self, event, data):
        self.began.set()
        self.events.append((event, data))
        if self.listen is not None:
            self.listen(event, data)


@pytest.mark.parametrize("codec", [JSON, MSGPACK])
async def test_values_callbacks_and_events_make_the_round_trip(codec):
    value = {"text": "é\u2028 \x00 🙂", "n": [1, 2.5, None, True], "big": "x" * 300_000}

    async with open_worker(codec=codec) as worker:
        assert await worker.call("echo", value) == value
        caller = Answering()
        assert await worker.call(
            "ask", {"command": "double", "values": [1, 2, 3]}, handler=caller
        ) == [2, 4, 6]
        assert caller.asked == [("double", {"value": n}) for n in (1, 2, 3)]
        await worker.call("emit", {"items": ["a", "b"]}, handler=caller)
        assert caller.events == [("stream", "a"), ("stream", "b")]


async def test_many_calls_at_once_each_get_their_own_answer():
    async with open_worker(concurrency=4) as worker:
        answers = await asyncio.gather(*(worker.call("echo", {"n": n}) for n in range(200)))
        assert [answer["n"] for answer in answers] == list(range(200))


async def test_frames_may_come_in_pieces_and_together():
    reply = frame({"id": 2, "event": "log", "data": "x" * 500})
    pieces = [bytes([byte]).hex() for byte in reply[:20]] + [reply[20:].hex(), (reply * 3).hex()]

    async with open_worker() as worker:
        caller = Answering()
        await worker.call("raw", {"pieces": pieces}, handler=caller)
        assert caller.events == [("log", "x" * 500)] * 4


BROKEN = {
    "garbage": b"GET / HTTP/1.1\r\n\r\n",
    "an empty frame": b"\0\0\0\0",
    "an unknown codec": b"\0\0\0\x03\x07{}",
    "an oversize frame": b"\x7f\0\0\0\x01",
    "no JSON": frame(b"{nonsense"),
    "JSON that is no message": frame([1, 2]),
    "a message of no kind": frame({"id": 2}),
    "a message of two kinds": frame({"id": 2, "ok": 1, "event": "log"}),
    "an id of the wrong type": frame({"id": "2", "ok": 1}),
    "an id that was never issued": frame({"id": 99, "ok": 1}),
    "a negative id": frame({"id": -2, "ok": 1}),
    "a callback without a command": frame({"id": 2, "call": 1}),
    "an invalid UTF-8 text": frame(b'{"id": 2, "ok": "\xff"}'),
    "a deep nesting": frame(b'{"id": 2, "ok": ' + b"[" * 100_000),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_broken_bytes_end_the_worker_with_a_protocol_error(name):
    async with open_worker(concurrency=2) as worker:
        long_call = asyncio.create_task(worker.call("sleep", {"seconds": 30}))
        await asyncio.sleep(0)
        with pytest.raises(WorkerProtocolError) as caught:
            await worker.call(
                "raw",
                {"pieces": [BROKEN[name].replace(b'"id": 2', b'"id": 3').hex()], "then": "hang"},
            )
        assert caught.value.is_retryable
        with pytest.raises(WorkerProtocolError):
            await long_call
        await wait_until_ended(worker.pid)


async def test_a_late_reply_and_a_second_reply_reach_nobody():
    async with open_worker(concurrency=2) as worker:
        assert (
            await worker.call("raw", {"pieces": [frame({"id": 2, "ok": "early"}).hex()]}) == "early"
        )
        assert await worker.call("echo", {"n": 1}) == {"n": 1}
        with pytest.raises(WorkerTimeoutError):
            await worker.call("sleep", {"seconds": 0.3}, seconds=0.05)
        assert await worker.call("echo", {"n": 2}) == {"n": 2}


async def test_a_silent_worker_meets_its_deadline_and_is_ended():
    async with open_worker(cancel_seconds=0.1) as worker:
        with pytest.raises(WorkerTimeoutError, match=r"'hang' within 0\.1 s"):
            await worker.call("hang", {}, seconds=0.1)
        await wait_until_ended(worker.pid)


@pytest.mark.parametrize(
    ("command", "survives"), [("spin", True), ("sleep", True), ("stubborn", False), ("hang", False)]
)
async def test_a_cancelled_call_stops_or_its_worker_does(command, survives):
    async with open_worker(concurrency=2, cancel_seconds=0.5) as worker:
        caller = Answering()
        call = asyncio.create_task(
            worker.call(command, {"seconds": 60, "says": "begun"}, handler=caller)
        )
        await caller.began.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await eventually(lambda: not worker.busy, within=1.0)
        assert (worker.state == "ready") is survives


async def test_cancelling_a_call_that_waits_for_the_parent_frees_it_at_once():
    async with open_worker(concurrency=2) as worker:

        class Slow(Answering):
            async def on_callback(self, command, args):
                self.began.set()
                await asyncio.Event().wait()

        caller = Slow()
        call = asyncio.create_task(
            worker.call("ask", {"command": "x", "values": [1]}, handler=caller)
        )
        await caller.began.wait()
        call.cancel()
        await eventually(lambda: not worker.busy, within=0.5)
        assert worker.state == "ready"


DEATHS = [
    {},
    {"after": "event"},
    {"after": "callback"},
    {"half": "00"},
    {"half": "00000005"},
    {"half": frame({"id": 2, "ok": 1})[:-1].hex()},
    {"signal": signal.SIGSEGV},
]


@pytest.mark.parametrize("how", DEATHS, ids=str)
async def test_death_at_any_point_of_a_call_fails_what_the_worker_held(how):
    async with open_worker(concurrency=2) as worker:
        long_call = asyncio.create_task(worker.call("sleep", {"seconds": 30}))
        with pytest.raises(WorkerLostError) as caught:
            await worker.call("crash", how, handler=Answering(lambda args: 0))
        assert caught.value.is_retryable
        with pytest.raises(WorkerLostError):
            await long_call
        with pytest.raises(WorkerLostError):
            await worker.call("echo", {})


async def test_a_program_may_raise_exit_and_return_nonsense_without_harm():
    async with open_worker() as worker:
        with pytest.raises(ExecutionError, match="ValueError: no luck") as caught:
            await worker.call("raise", {"message": "no luck"})
        assert "in _raise" in caught.value.context["traceback"]
        with pytest.raises(ExecutionError, match="its own cause"):
            await worker.call("raise", {"message": "its own cause", "by_itself": True}, seconds=5)
        for command in ("exit", "unserializable"):
            with pytest.raises(ExecutionError):
                await worker.call(command, {})
        with pytest.raises(
            DefinitionError, match=r"there is no command 'fly'; commands are: ask, cancel"
        ):
            await worker.call("fly", {})
        assert await worker.call("echo", {"still": "here"}) == {"still": "here"}


async def test_the_error_of_a_callback_is_the_error_of_the_call_itself():
    async with open_worker() as worker:
        error = ToolError("the tool is out of order", tool="hammer")

        def refuse(args):
            raise error

        with pytest.raises(ToolError) as caught:
            await worker.call("ask", {"command": "x", "values": [1]}, handler=Answering(refuse))
        assert caught.value is error
        assert await worker.call("swallow", {}, handler=Answering(refuse)) == "swallowed"
        assert isinstance(
            (await _failure(worker.call("ask", {"command": "x", "values": [1]}))),
            WorkerProtocolError,
        )


async def test_an_error_of_the_listener_is_the_error_of_its_run_and_the_worker_lives_on():
    async with open_worker(concurrency=3) as worker:

        def fail(event, data):
            raise failure

        deaf = Answering(listen=fail)
        long_call = asyncio.create_task(worker.call("sleep", {"seconds": 0.3}))
        for failure, kind in (
            (RuntimeError("my bug"), ExecutionError),
            (ToolError("no"), ToolError),
        ):
            for command in ("spin", "emit"):
                with pytest.raises(kind, match=str(failure)) as caught:
                    await worker.call(command, {"items": [1, 2]}, handler=deaf)
                assert not caught.value.is_retryable
        assert await long_call == {"seconds": 0.3}
        assert await worker.call("echo", {"n": 1}) == {"n": 1}
        assert worker.state == "ready"


async def test_a_worker_that_does_not_stop_for_a_listener_that_failed_is_ended():
    async with open_worker(cancel_seconds=0.1) as worker:
        deaf = Answering(listen=lambda event, data: data["no such key"])
        with pytest.raises(ExecutionError, match="the handler of the event 'progress' failed"):
            await worker.call("stubborn", {}, handler=deaf)
        await wait_until_ended(worker.pid)


@pytest.mark.parametrize("codec", [JSON, MSGPACK])
@pytest.mark.parametrize(
    "value", [object(), "\ud83d", {"\udfff": 1}], ids=["object", "surrogate", "key"]
)
async def test_what_is_no_json_value_is_said_with_its_place_and_not_to_be_tried_again(codec, value):
    async with open_worker(codec=codec) as worker:
        with pytest.raises(
            NotJsonError, match=r"args\['rows'\]\[1\]\['name'\].* is not a JSON value"
        ) as caught:
            await worker.call("echo", {"rows": [{}, {"ok": 1, "name": value}]})
        assert not caught.value.is_retryable
        with pytest.raises(NotJsonError, match=r"^ok\['name'\].* is not a JSON value") as caught:
            await worker.call(
                "ask", {"command": "x", "values": [1]}, handler=Answering(lambda _: {"name": value})
            )
        assert not caught.value.is_retryable
        error = ToolError("an error with \ud83d")
        with pytest.raises(ToolError) as thrown:
            await worker.call(
                "ask", {"command": "x", "values": [1]}, handler=Answering(lambda _: _throw(error))
            )
        assert thrown.value is error
        assert await worker.call("echo", {"n": 1}) == {"n": 1}


async def test_a_number_that_the_codec_lacks_is_an_error_on_either_side_and_costs_no_worker():
    async with open_worker(codec=MSGPACK) as worker:
        with pytest.raises(NotJsonError, match=r"args\['n'\] is not a JSON value"):
            await worker.call("echo", {"n": 1 << 70})
        for _ in range(3):
            with pytest.raises(NotJsonError, match="serialize ints"):
                await worker.call("unserializable", {"huge": True}, seconds=5)
        assert await worker.call("echo", {"n": 1}) == {"n": 1}


def test_a_cancelled_call_leaves_nothing_of_its_callbacks_in_the_child():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        runtime = Runtime(theirs, {"limit": LIMIT, "concurrency": 1})
        runtime.host = SimpleNamespace(
            commands={"ask": lambda call, args: call.callback("x", args)}
        )
        runtime._handle({"id": 1, "cmd": "ask"})
        ours.settimeout(10)
        assert b'"call":1' in ours.recv(4096)
        assert list(runtime._callbacks) == [1]
        runtime._handle({"id": 0, "cmd": "cancel", "args": {"id": 1}})
        assert runtime._callbacks == {}
        received = b""
        while b'"id":1,"error":{"code":"cancelled"' not in received:
            received += ours.recv(4096)


def _throw(error):
    raise error


async def _failure(awaitable):
    try:
        return await awaitable
    except DspexError as error:
        return error


async def test_a_message_too_long_for_a_frame_fails_alone_in_both_directions():
    async with open_worker(frame_limit=10_000) as worker:
        with pytest.raises(FrameTooLargeError, match="frame_limit"):
            await worker.call("echo", {"text": "x" * 20_000})
        with pytest.raises(FrameTooLargeError):
            await worker.call("repeat", {"text": "y" * 9_000})
        assert await worker.call("echo", {}) == {}


async def test_what_a_program_prints_becomes_log_events_and_never_bytes_of_the_protocol():
    observer = Collecting()

    async with open_worker(observer=observer) as worker:
        await worker.call("print", {"text": "hello"})
    logs = {
        (event.attributes["stream"], event.message)
        for event in observer.events
        if event.name == "log"
    }
    assert logs == {("stdout", "hello"), ("stderr", "hello"), ("stdout", "written to descriptor 1")}


async def test_nothing_of_the_parents_environment_reaches_a_child(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")

    async with open_worker(environment={"GIVEN": "1"}) as worker:
        environment = await worker.call("environment", {})
        assert "OPENAI_API_KEY" not in environment
        assert environment["GIVEN"] == "1"
        assert set(environment) <= {
            "PATH", "HOME", "TMPDIR", "LANG", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE",
            "GIVEN", "DSPEX_WORKER_RUN", "LC_CTYPE",
        }  # fmt: skip


@pytest.mark.parametrize(
    ("config", "options", "why"),
    [
        ({"fail": "no dspy here"}, {}, "no dspy here"),
        ({"die": 3}, {}, "the worker ended"),
        ({"silence": 1}, {"start_seconds": 0.3}, "within 0.3 s"),
        ({"raw": b"garbage and more".hex()}, {}, "bytes that are not a frame"),
        ({"raw": frame({"id": 1, "ok": {"protocol": 99}}).hex()}, {}, "not with protocol 1"),
        ({"about": {"protocol": "x"}}, {}, "not with protocol 1"),
        ({"raw": frame({"id": 7, "ok": 1}).hex()}, {}, "never made"),
    ],
)
async def test_a_worker_that_introduces_itself_wrongly_is_a_start_error(config, options, why):
    before = open_resources()
    with pytest.raises(WorkerStartError, match=why):
        async with running(config=config, **options):
            pass
    assert open_resources() == before


async def test_an_interpreter_that_does_not_exist_is_a_start_error_and_leaks_nothing():
    before = open_resources()
    spec = fake_worker()
    spec = type(spec)(host=spec.host, interpreter="/nonexistent/python")
    with pytest.raises(WorkerStartError, match="name a Python executable"):
        await PoolWorker("w", spec, run=run_mark(), observer=Collecting()).start()
    assert open_resources() == before


async def test_what_a_program_started_ends_with_its_worker():
    pids = []

    async with open_worker() as worker:
        pids.append(await worker.call("spawn", {}))
        assert is_alive(pids[0])
    await wait_until_ended(pids[0])


async def test_a_worker_that_ignores_every_request_to_leave_is_terminated_then_killed():
    async with running(shutdown_seconds=0.2) as worker:
        os.kill(worker.pid, signal.SIGSTOP)
        pid = worker.pid
    assert not is_alive(pid)


MESSAGES = st.fixed_dictionaries(
    {},
    optional={
        "id": st.one_of(st.integers(-3, 5), st.text(max_size=3), st.none()),
        "ok": st.one_of(st.none(), st.integers(), st.text(max_size=5)),
        "error": st.one_of(
            st.fixed_dictionaries({"code": st.text(max_size=9), "message": st.text(max_size=5)}),
            st.text(),
        ),
        "event": st.text(max_size=5),
        "call": st.one_of(st.integers(-2, 9), st.none()),
        "cmd": st.text(max_size=5),
        "data": st.one_of(st.none(), st.lists(st.integers(), max_size=3)),
    },
)
PIECES = st.lists(
    st.one_of(
        st.binary(min_size=1, max_size=40),
        MESSAGES.map(frame),
        st.binary(max_size=40).map(lambda b: pack(JSON, b)),
    ),
    max_size=6,
)


@examples(15, suppress_health_check=[HealthCheck.too_slow])
@given(pieces=PIECES, then=st.sampled_from(["answer", "hang", "die"]))
async def test_whatever_a_worker_sends_every_call_ends_typed_and_nothing_leaks(pieces, then):
    before = open_resources()
    async with running(concurrency=2, shutdown_seconds=0.2, cancel_seconds=0.2) as worker:
        arguments = {"pieces": [piece.hex() for piece in pieces], "then": then}
        calls = [
            worker.call("sleep", {"seconds": 30}, seconds=0.3),
            worker.call("raw", arguments, seconds=0.3),
        ]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert not [
            o for o in outcomes if isinstance(o, BaseException) and not isinstance(o, DspexError)
        ]
    assert worker.busy == 0
    assert open_resources() == before


async def test_the_fake_is_a_worker_error_free_program_when_left_alone():
    async with open_worker() as worker:
        assert await worker.call("stats", {}) == {
            "busy": 0,
            "served": 0,
            "memory": pytest.approx(2e7, rel=1),
        }
        assert worker.about["python"] == ".".join(map(str, sys.version_info[:3]))
        assert not isinstance(worker.failure, WorkerError)
