"""The sandbox "monty": a Python interpreter in Rust without access to the host.

It has no files, network, processes or packages but those that the host hands in, and neither
classes with inheritance nor generators; see the documentation of `pydantic-monty`.
"""

import asyncio
import importlib
import json
import re
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from weakref import WeakKeyDictionary

from dspex.error_text import quantity
from dspex.errors import ConfigurationError, DspexError, SandboxError
from dspex.execution.sandbox.sandbox import (
    FaultKind,
    SandboxFault,
    SandboxLimits,
    SandboxResult,
    SandboxTool,
)
from dspex.execution.sandbox.tool_calls import call_tool
from dspex.execution.sandbox.values import json_value, read_files, write_files

_FOLDER: Final = "/data"
_MIB: Final = 1024 * 1024
_GRACE: Final = 1.0  # seconds until an interpreter that ignores its limit is killed


def _monty() -> Any:
    try:
        return importlib.import_module("pydantic_monty")
    except ImportError as error:
        raise ConfigurationError(
            "the sandbox 'monty' needs a package: pip install 'dspex[sandbox]'"
        ) from error


class MontySandbox:
    """Runs code in interpreters of `pydantic-monty`, each in a process of its own pool.

    The pool belongs to the running loop and is opened by the first session.
    """

    name = "monty"
    is_safe = True

    def __init__(self, *, processes: int | None = None) -> None:
        """Take the maximum number of processes, by default one for each core."""
        self._processes = processes
        self._pools: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Task[Any]] = (
            WeakKeyDictionary()
        )

    @asynccontextmanager
    async def start(
        self,
        *,
        tools: Mapping[str, SandboxTool] | None = None,
        files: Mapping[str, bytes] | None = None,
        limits: SandboxLimits | None = None,
    ) -> AsyncIterator["MontySession"]:
        """Start a session; see `Sandbox.start`."""
        monty, limits = _monty(), limits or SandboxLimits()
        pool = await self._pool(monty)
        checkout = pool.checkout(
            limits={
                "max_feed_duration_secs": limits.seconds,
                "max_memory": limits.memory_mib * _MIB,
                "max_suspensions": 1_000_000,  # the session counts its calls itself
                "max_total_sleep_secs": limits.seconds,
            }
        )
        with tempfile.TemporaryDirectory(prefix="dspex-sandbox-") as folder:
            write_files(Path(folder), files or {})
            with monty.MountDir(
                host_path=folder,
                virtual_path=_FOLDER,
                mode="read-write",
                write_bytes_limit=limits.files_kib * 1024,
            ) as mount:
                async with checkout as session:
                    yield MontySession(
                        monty, session, dict(tools or {}), limits=limits, mount=mount
                    )

    async def aclose(self) -> None:
        """End the interpreters of the running loop."""
        opened = self._pools.pop(asyncio.get_running_loop(), None)
        if opened is not None:
            await (await opened).__aexit__(None, None, None)

    async def _pool(self, monty: Any) -> Any:
        loop = asyncio.get_running_loop()
        if loop not in self._pools:
            pool = monty.AsyncMonty(max_processes=self._processes, feed_duration_limit_grace=_GRACE)
            self._pools[loop] = asyncio.ensure_future(pool.__aenter__())
        try:
            return await asyncio.shield(self._pools[loop])
        except (OSError, FileNotFoundError) as error:
            self._pools.pop(loop, None)
            raise SandboxError(f"the sandbox 'monty' cannot be started: {error}") from error


class MontySession:
    """One interpreter; see `SandboxSession`."""

    def __init__(  # the parts of one session
        self,
        monty: Any,
        session: Any,
        tools: Mapping[str, SandboxTool],
        *,
        limits: SandboxLimits,
        mount: Any,
    ) -> None:
        """Take the library, its session, the tools, the limits and the folder."""
        self._monty = monty
        self._session = session
        self._tools = tools
        self._limits = limits
        self._mount = mount
        self._end = ""
        self._calls = 0

    async def run(self, code: str, *, inputs: Mapping[str, Any] | None = None) -> SandboxResult:
        """Run code; see `SandboxSession.run`."""
        if self._end:
            raise SandboxError(f"the session has ended ({self._end}); start another one")
        values = json_value(dict(inputs or {}), "the inputs")
        output = self._monty.CollectStreams(self._limits.output_kib * 1024)
        self._calls = 0
        value, fault = None, None
        try:
            value = await self._drive(
                await self._session.feed_start(
                    code,
                    inputs=values,
                    external_lookup=dict.fromkeys(self._tools, _stub),
                    print_callback=output,
                    mount=self._mount,
                    cwd=_FOLDER,
                )
            )
            value = json_value(value, "the value")
            if len(json.dumps(value)) > self._limits.output_kib * 1024:
                value, fault = None, self._fault("output", "MemoryError", "the value is too large")
        except self._monty.MontyError as error:
            fault = self._fault_of(error)
        except SandboxError as error:
            fault = self._fault("exception", "TypeError", error.message)
        files = read_files(Path(self._mount.host_path), self._limits.files_kib * 1024)
        stdout = "".join(text for _, text in output.output)
        return SandboxResult(value=value, stdout=stdout, files=files, fault=fault)

    async def _drive(self, state: Any) -> Any:
        """Run to the end, answering the calls of tools."""
        while not isinstance(state, self._monty.MontyComplete):
            is_call = isinstance(state, self._monty.AsyncFunctionSnapshot)
            if is_call and not state.is_os_function and state.function_name in self._tools:
                state = await state.resume(await self._call(state))
            else:
                state = await state.resume_auto()
        return state.output

    async def _call(self, state: Any) -> dict[str, Any]:
        self._calls += 1
        if self._calls > self._limits.calls:
            message = f"more than {quantity(self._limits.calls, 'call')} of tools"
            return {"exception": RuntimeError(message)}
        try:
            result = await call_tool(
                self._tools, state.function_name, args=state.args, kwargs=state.kwargs
            )
        except DspexError as error:
            return {"exception": RuntimeError(error.public_message)}
        return {"return_value": result}

    def _fault_of(self, error: Any) -> SandboxFault:
        if isinstance(error, self._monty.MontyCrashedError):
            kind: FaultKind = "time" if error.timed_out else "crash"
            self._end = kind
            return SandboxFault(kind=kind, type="SystemError", message=str(error))
        inner = error.exception()
        name, message = type(inner).__name__, str(inner) or str(error)
        frames = error.traceback() if hasattr(error, "traceback") else []
        kind = "syntax" if isinstance(error, self._monty.MontySyntaxError) else "exception"
        if self._calls > self._limits.calls:
            kind = "calls"
        elif limit := _LIMIT.match(message):
            kind = _KINDS[limit[1]]
            if limit[2] == str(self._limits.output_kib * 1024):
                kind = "output"
            elif kind == "time":
                self._end = kind  # the interpreter was stopped in the middle of something
        line = frames[-1].line if frames else None
        return SandboxFault(kind=kind, type=name, message=message, line=line)

    def _fault(self, kind: FaultKind, type_: str, message: str) -> SandboxFault:
        return SandboxFault(kind=kind, type=type_, message=message)


async def _stub(*_args: Any, **_kwargs: Any) -> None:
    """Stand for a tool where the interpreter looks its name up; `MontySession` answers the call."""


_LIMIT: Final = re.compile(r"(feed time|sleep|memory) limit exceeded: .* > (\d*)")
_KINDS: Final[Mapping[str, FaultKind]] = {"feed time": "time", "sleep": "time", "memory": "memory"}
