"""What every sandbox does for code, and what it withstands."""

import asyncio
import importlib.util
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dspex.errors import DefinitionError, DspexError, SandboxError
from dspex.execution.sandbox import SANDBOXES, Sandbox, SandboxLimits, find_sandbox
from dspex.execution.sandbox.deno import DenoSandbox
from tests.support.deno import skip_without_deno
from tests.support.waiting import eventually

pytestmark = pytest.mark.full
LIMITS = SandboxLimits(seconds=2, memory_mib=100, output_kib=16, files_kib=16, calls=5)


@pytest.fixture(scope="module")
def deno() -> Iterator[DenoSandbox]:
    """One for all tests: the snapshot of Pyodide is made once."""
    skip_without_deno()
    sandbox = DenoSandbox()
    yield sandbox
    asyncio.run(sandbox.aclose())


@pytest.fixture(params=list(SANDBOXES))
async def sandbox(request: pytest.FixtureRequest) -> Any:
    if request.param == "deno":
        yield request.getfixturevalue("deno")
        return
    if request.param == "monty" and importlib.util.find_spec("pydantic_monty") is None:
        pytest.skip("pydantic-monty is not installed")
    sandbox = SANDBOXES[request.param]()
    yield sandbox
    await sandbox.aclose()


async def double(number: int, *, times: int = 2) -> dict[str, int]:
    return {"result": number * times}


async def test_code_gets_inputs_keeps_names_and_gives_its_last_value(sandbox: Sandbox) -> None:
    async with sandbox.start() as session:
        first = await session.run("total = sum(xs)\nprint('added')\ntotal", inputs={"xs": [1, 2]})
        assert (first.value, first.stdout, first.fault) == (3, "added\n", None)
        assert (await session.run("total + 1")).value == 4
        assert (await session.run("x = 1")).value is None
        assert (await session.run("{'a': [1.5, None, True], 'b': (1, 2)}")).value == {
            "a": [1.5, None, True],
            "b": [1, 2],
        }


async def test_code_calls_tools_of_the_host_as_if_they_were_its_own(sandbox: Sandbox) -> None:
    async with sandbox.start(tools={"double": double}) as session:
        result = await session.run("double(2)['result'] + double(3, times=3)['result']")
        assert (result.value, result.fault) == (13, None)


async def test_the_error_of_a_tool_is_an_exception_in_the_code(sandbox: Sandbox) -> None:
    async def fail(_x: int) -> None:
        raise DspexError("no such city")

    async with sandbox.start(tools={"fail": fail}) as session:
        code = "try:\n    fail(1)\nexcept RuntimeError as error:\n    text = str(error)\ntext"
        assert (await session.run(code)).value == "no such city"
        result = await session.run("fail(1)")
        assert result.fault is not None
        assert (result.fault.kind, result.fault.type) == ("exception", "RuntimeError")


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ("double()", "double: missing a required argument: 'number'"),
        ("double(1, 2)", "double: too many positional arguments"),
        ("double(1, by=2)", "double: got an unexpected keyword argument 'by'"),
    ],
)
async def test_wrong_arguments_of_a_tool_are_an_exception_in_the_code(
    sandbox: Sandbox, call: str, reason: str
) -> None:
    async with sandbox.start(tools={"double": double}) as session:
        result = await session.run(call)
        assert result.fault is not None
        assert (result.fault.type, result.fault.message) == ("RuntimeError", reason)
        assert (await session.run("double(1)")).value == {"result": 2}


async def test_faults_of_the_code_have_their_kind_type_and_line(sandbox: Sandbox) -> None:
    async with sandbox.start() as session:
        result = await session.run("x = 1\ny = x / 0")
        assert result.fault is not None
        assert (result.fault.kind, result.fault.type) == ("exception", "ZeroDivisionError")
        assert result.fault.line == 2
        syntax = await session.run("def f(:")
        assert syntax.fault is not None
        assert syntax.fault.kind == "syntax"
        assert (await session.run("x")).value == 1  # the session goes on


async def test_files_come_in_and_go_out(sandbox: Sandbox) -> None:
    async with sandbox.start(files={"in.txt": b"hello"}) as session:
        code = (
            "with open('in.txt') as file:\n    text = file.read()\n"
            "with open('out.txt', 'w') as file:\n    file.write(text.upper())\ntext"
        )
        result = await session.run(code)
        assert result.fault is None
        assert result.value == "hello"
        assert result.files == {"in.txt": b"hello", "out.txt": b"HELLO"}
        with pytest.raises(SandboxError, match="not a plain name"):
            async with sandbox.start(files={"../x": b""}):
                pass


HOSTILE = {
    "endless loop": ("while True:\n    pass", {"time"}),
    "long sleep": ("import time\ntime.sleep(60)", {"time"}),
    "memory": ("x = [0] * (10 ** 9)", {"memory", "crash"}),
    "growing memory": ("s = 'a'\nwhile True:\n    s = s + s", {"memory", "crash"}),
    "output flood": ("while True:\n    print('x' * 1000)", {"output", "time"}),
    "huge value": ("'x' * 1000000", {"output"}),
    "value without a JSON form": ("class A:\n    pass\nA()", {"exception"}),
    "deep value": (
        "x = []\nfor _ in range(5000):\n    x = [x]\nx",
        {"exception", "crash", "output"},
    ),
    "recursion": ("def f():\n    return f()\nf()", {"exception", "crash", "memory"}),
    "calls": ("for n in range(100):\n    double(n)", {"calls"}),
    "exit": ("raise SystemExit(3)", {"exception"}),
    "huge number": ("len(str(7 ** (10 ** 7)))", {"memory", "time", "exception", "crash"}),
    "host file": ("open('/etc/shadow').read()", {"exception"}),
    "writes outside": ("open('/etc/dspex-hostile', 'w').write('x')", {"exception"}),
    "full disk": (
        "with open('big', 'w') as file:\n    for _ in range(1000):\n        file.write('x' * 1000)",
        {"exception", "crash"},
    ),
}


@pytest.mark.parametrize("name", list(HOSTILE))
async def test_hostile_code_ends_with_a_fault_and_the_host_goes_on(
    sandbox: Sandbox, name: str
) -> None:
    code, kinds = HOSTILE[name]
    # a slow machine does not turn other faults into that of time
    limits = LIMITS if "time" in kinds else replace(LIMITS, seconds=60.0)
    started = time.monotonic()
    async with sandbox.start(tools={"double": double}, limits=limits) as session:
        result = await session.run(code)
        assert result.fault is not None, result
        assert result.fault.kind in kinds, result.fault
        assert len(result.stdout) <= 16 * 1024
        assert sum(map(len, result.files.values())) <= 16 * 1024
    assert time.monotonic() - started < 60
    async with sandbox.start(limits=SandboxLimits(seconds=60.0)) as session:
        assert (await session.run("1 + 1")).value == 2


ESCAPES = {
    "environment": "import os\nprint(os.environ.get('DSPEX_SANDBOX_CANARY'))",
    "network": "import socket\nsocket.create_connection(('127.0.0.1', PORT), 1)\nprint('seen')",
    "introspection": (
        "for cls in ().__class__.__mro__[-1].__subclasses__():\n"
        "    if cls.__name__ == 'SandboxLimits':\n        print('seen')"
    ),
}


@pytest.mark.parametrize("name", list(ESCAPES))
async def test_code_sees_neither_environment_nor_network_nor_host_objects(
    sandbox: Sandbox, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DSPEX_SANDBOX_CANARY", "seen")
    connections: list[object] = []

    async def greet(_reader: object, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, sandbox.start(limits=LIMITS) as session:
        result = await session.run(ESCAPES[name].replace("PORT", str(port)))
    if name == "network" and not sandbox.is_safe and connections:
        pytest.skip("this kernel gives no network namespaces to this user; the sandbox is unsafe")
    assert "seen" not in result.stdout
    assert not connections


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks at /proc")
async def test_a_fork_bomb_and_detached_children_end_with_the_session() -> None:
    sandbox = SANDBOXES["subprocess"]()
    code = (
        "import os, time\n"
        "for _ in range(1000):\n"
        "    try:\n        pid = os.fork()\n"
        "    except OSError:\n        break\n"
        "    if pid == 0:\n        os.setsid()\n        time.sleep(600)\n"
        "    count += 1\n"
        "count"
    )
    async with sandbox.start(limits=SandboxLimits(seconds=20)) as session:
        result = await session.run(f"count = 0\n{code}")
        assert result.value < 200, result
    if os.geteuid() == 0:  # a separate namespace ends with its first process
        await eventually(lambda: not _detached())


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root")
async def test_code_of_root_runs_as_a_user_without_privileges() -> None:
    code = (
        "import os\n"
        "ids = [*os.getresuid(), *os.getresgid(), *os.getgroups()]\n"
        "try:\n    os.setuid(0)\nexcept PermissionError:\n    ids.append('refused')\n"
        "ids"
    )
    async with SANDBOXES["subprocess"]().start() as session:
        assert (await session.run(code)).value == [*[65534] * 6, "refused"]


def _processes() -> list[str]:
    return [name for name in os.listdir("/proc") if name.isdigit()]


def _detached() -> list[str]:
    children = []
    for name in _processes():
        try:
            command = Path(f"/proc/{name}/cmdline").read_bytes()
        except OSError:
            continue
        if b"sandbox/child.py" in command:
            children.append(name)
    return children


async def test_a_session_that_was_stopped_says_so(sandbox: Sandbox) -> None:
    async with sandbox.start(limits=SandboxLimits(seconds=0.5)) as session:
        stopped = await session.run("while True:\n    pass")
        assert stopped.fault is not None
        assert stopped.fault.kind == "time"
        with pytest.raises(SandboxError, match="has ended"):
            await session.run("1")


async def test_inputs_and_results_of_tools_are_json(sandbox: Sandbox) -> None:
    async def bad() -> object:
        return object()

    async with sandbox.start(tools={"bad": bad}) as session:
        with pytest.raises(SandboxError, match="the inputs must consist of"):
            await session.run("1", inputs={"x": object()})
        result = await session.run("bad()")
        assert result.fault is not None
        assert "the result of bad must consist of" in result.fault.message


def test_sandboxes_are_found_by_name() -> None:
    assert find_sandbox(None).name == "monty"
    assert find_sandbox("subprocess") is find_sandbox("subprocess")
    with pytest.raises(DefinitionError, match="Did you mean 'monty'"):
        find_sandbox("month")
    with pytest.raises(DefinitionError, match="seconds of SandboxLimits must be above 0"):
        SandboxLimits(seconds=0)
