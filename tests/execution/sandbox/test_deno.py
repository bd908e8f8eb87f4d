"""The sandbox "deno": code that takes over its process gets nothing of the host."""

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dspex.errors import ConfigurationError, SandboxError
from dspex.execution.sandbox import SandboxLimits
from dspex.execution.sandbox.deno import DenoSandbox
from tests.support.deno import skip_without_deno
from tests.support.waiting import eventually

pytestmark = pytest.mark.full
LIMITS = SandboxLimits(seconds=20, memory_mib=64, output_kib=16, files_kib=16, calls=5)
# any object of JavaScript leads to a function that evaluates text
JAVASCRIPT = "import js\njs.constructor.constructor({!r})()"


@pytest.fixture(scope="module")
def module_sandbox() -> Iterator[DenoSandbox]:
    skip_without_deno()
    sandbox = DenoSandbox()
    yield sandbox
    asyncio.run(sandbox.aclose())


@pytest.fixture
def deno(module_sandbox: DenoSandbox) -> DenoSandbox:
    return module_sandbox


async def test_python_reaches_javascript_which_may_do_nothing(
    deno: DenoSandbox, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("seen")
    attempts = [
        f"return Deno.readTextFileSync({str(secret)!r})",
        f"return Deno.writeTextFileSync({str(tmp_path / 'new')!r}, 'seen')",
        "return Deno.env.get('PATH')",
        "return Deno.env.toObject()",
        "return Deno.hostname()",
        "return new Deno.Command('true').outputSync().success",
        "return Deno.dlopen('libc.so.6', {abs: {parameters: ['i32'], result: 'i32'}})",
        "return Deno.readDirSync('/').next().value.name",
        "return Deno.readTextFileSync('/proc/self/environ')",
        "return Deno.readLinkSync('/proc/self/exe')",
        "return Deno.kill(Deno.ppid, 'SIGTERM')",
        "return Deno.listen({port: 0}).addr.port",
        "return new Worker('data:application/javascript,', {type: 'module'})",
    ]
    async with deno.start(limits=LIMITS) as session:
        works = await session.run(JAVASCRIPT.format("return 6 * 7"))
        assert works.value == 42
        for attempt in attempts:
            result = await session.run(JAVASCRIPT.format(attempt))
            assert result.fault is not None, (attempt, result)
            assert "seen" not in json.dumps(result.value)
    assert not (tmp_path / "new").exists()


async def test_javascript_reaches_no_network(deno: DenoSandbox) -> None:
    connections: list[object] = []

    async def greet(_reader: object, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    request = f"return fetch('http://127.0.0.1:{port}').then(() => 'seen', error => String(error))"
    code = (
        "import js\nfrom pyodide.ffi import run_sync\n"
        f"run_sync(js.constructor.constructor({request!r})())"
    )
    async with server, deno.start(limits=LIMITS) as session:
        result = await session.run(code)
        assert "seen" not in json.dumps(result.value)
    assert not connections


@pytest.mark.parametrize(
    ("attempt", "kinds"),
    [
        ("while (true) {}", {"time"}),
        (
            "const all = []; while (true) all.push(new Uint8Array(1 << 24).fill(1))",
            _KINDS := {"crash", "exception"},
        ),
        ("const all = []; while (true) all.push({a: [1, 2, 3]})", _KINDS),
        ("Deno.exit(3)", _KINDS),
        ("const f = () => f() + 1; return f()", _KINDS),
    ],
)
async def test_hostile_javascript_ends_with_a_fault(
    deno: DenoSandbox, attempt: str, kinds: set[str]
) -> None:
    limits = SandboxLimits(seconds=3 if kinds == {"time"} else 60, memory_mib=64)
    async with deno.start(limits=limits) as session:
        result = await session.run(JAVASCRIPT.format(attempt))
        assert result.fault is not None
        assert result.fault.kind in kinds, result.fault
    async with deno.start() as session:
        assert (await session.run("1 + 1")).value == 2


FORGED = [
    "{}",
    "null",
    "[1]",
    "not json",
    '{"call": "double"}',
    '{"call": "none", "args": [], "kwargs": {}}',
    '{"stdout": 3, "value": {"a": 1}, "files": [], "fault": 7}',
    '{"files": {"../up": "eA==", "a": "?", "b": 3, "c": "eA=="}, "fault": {"kind": "wrong"}}',
    json.dumps({"files": {"big": "eA==" * 10_000}}),
    json.dumps({"stdout": "x" * 100_000}),
]


@pytest.mark.parametrize("line", FORGED)
async def test_forged_lines_are_results_of_the_code_and_nothing_else(
    deno: DenoSandbox, line: str, tmp_path: Path
) -> None:
    async def double(number: int) -> int:
        return 2 * number

    write = f"Deno.stdout.writeSync(new TextEncoder().encode({line + chr(10)!r}))"
    async with deno.start(tools={"double": double}, limits=LIMITS) as session:
        result = await session.run(JAVASCRIPT.format(write))
        assert len(result.stdout) <= 16 * 1024
        assert result.files.keys() <= {"c"}
    assert list(tmp_path.iterdir()) == []


async def test_a_session_leaves_nothing_for_the_next(deno: DenoSandbox) -> None:
    async with deno.start(files={"old.txt": b"x"}) as session:
        await session.run("import builtins\nbuiltins.leak = 1\nimport random")
        first = await session.run("random.random()")
    async with deno.start() as session:
        result = await session.run(
            "import builtins, os, random\n(hasattr(builtins, 'leak'), os.listdir('.'))"
        )
        assert result.value == [False, []]
        assert (await session.run("random.random()")).value != first.value


async def test_processes_end_with_their_sessions_and_spares_by_closing() -> None:
    skip_without_deno()
    sandbox = DenoSandbox(spares=2)
    async with sandbox.start() as session:
        assert (await session.run("1")).value == 1
    processes = [spare._process.pid for spare in sandbox._spares]
    assert len(processes) == 2
    await sandbox.aclose()
    assert not any(Path(f"/proc/{pid}").exists() for pid in processes)
    async with sandbox.start() as session:  # it may be used again
        assert (await session.run("1")).value == 1
    await sandbox.aclose()


async def test_a_spare_that_died_is_not_taken(deno: DenoSandbox) -> None:
    async with deno.start():
        pass
    spare = deno._spares[0]
    spare.kill()
    await eventually(lambda: not spare.is_alive())
    async with deno.start() as session:
        assert (await session.run("2 + 2")).value == 4


@pytest.mark.skipif(os.name != "posix", reason="starts a script")
async def test_what_is_missing_is_an_error_that_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    sandbox = DenoSandbox(deno=tmp_path / "none")
    with pytest.raises(ConfigurationError, match=r"npm install --prefix .* pyodide"):
        async with sandbox.start():
            pass
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigurationError, match=r"pip install 'dspex\[deno\]'"):
        async with DenoSandbox().start():
            pass
    with pytest.raises(SandboxError, match="cannot be started"):
        async with DenoSandbox(deno=tmp_path / "none", pyodide=tmp_path).start():
            pass
    broken = tmp_path / "deno"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    with pytest.raises(SandboxError, match="Pyodide does not load"):
        async with DenoSandbox(deno=broken, pyodide=tmp_path, spares=0).start():
            pass
