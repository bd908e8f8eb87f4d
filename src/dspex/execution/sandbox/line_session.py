"""A session with a process that answers lines of JSON: code, calls of tools, and results."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any, Final, Protocol

import msgspec

from dspex.error_text import quantity
from dspex.errors import DspexError, SandboxError
from dspex.execution.sandbox.sandbox import (
    FaultKind,
    SandboxFault,
    SandboxLimits,
    SandboxResult,
    SandboxTool,
)
from dspex.execution.sandbox.tool_calls import call_tool
from dspex.execution.sandbox.values import json_value

LONGEST_LINE: Final = 64 * 1024 * 1024


class LineProcess(Protocol):
    """The process of one session. What it writes is the code's: nothing in it can be trusted."""

    answers: asyncio.StreamReader
    requests: asyncio.WriteTransport

    def files(self, message: Mapping[str, Any]) -> dict[str, bytes]:
        """Return the files that a run left, within the limits; `message` is the answer or empty."""
        ...

    def kill(self) -> None:
        """Kill the process and what it started; a second call does nothing."""
        ...


class LineSession:
    """One interpreter in a process; see `SandboxSession`."""

    def __init__(
        self, process: LineProcess, tools: Mapping[str, SandboxTool], limits: SandboxLimits
    ) -> None:
        """Take the process, the tools and the limits."""
        self._process = process
        self._tools = tools
        self._limits = limits
        self._end = ""

    async def run(self, code: str, *, inputs: Mapping[str, Any] | None = None) -> SandboxResult:
        """Run code; see `SandboxSession.run`."""
        if self._end:
            raise SandboxError(f"the session has ended ({self._end}); start another one")
        self._send({"code": code, "inputs": json_value(dict(inputs or {}), "the inputs")})
        seconds, calls = self._limits.seconds, 0
        loop = asyncio.get_running_loop()
        while True:
            started = loop.time()
            try:
                async with asyncio.timeout(seconds):
                    line = await self._process.answers.readline()
            except TimeoutError:
                return self._ended("time", f"the code ran longer than {self._limits.seconds} s")
            except ValueError:  # a line without an end
                return self._ended("output", "the answer is too large")
            seconds -= loop.time() - started
            message = read_message(line)
            if message is None:
                return self._ended("crash", "the process has ended")
            if "call" not in message:
                return self._result(message)
            calls += 1
            if calls > self._limits.calls:
                return self._ended(
                    "calls", f"more than {quantity(self._limits.calls, 'call')} of tools"
                )
            self._send(await self._call(message))

    async def _call(self, message: Mapping[str, Any]) -> dict[str, Any]:
        name, args, kwargs = (message.get(part) for part in ("call", "args", "kwargs"))
        if not (isinstance(name, str) and isinstance(args, list) and isinstance(kwargs, dict)):
            return {"error": "the call cannot be made: it needs `call`, `args` and `kwargs`"}
        try:
            return {"result": await call_tool(self._tools, name, args=args, kwargs=kwargs)}
        except DspexError as error:
            return {"error": error.public_message}

    def _send(self, message: Mapping[str, Any]) -> None:
        self._process.requests.write(json.dumps(message).encode() + b"\n")

    def _result(self, message: Mapping[str, Any]) -> SandboxResult:
        stdout, most = str(message.get("stdout", "")), self._limits.output_kib * 1024
        if len(stdout) > most or len(json.dumps(message.get("value"))) > most:
            return self._ended("output", "the value is too large")
        return SandboxResult(
            value=message.get("value"),
            stdout=stdout,
            files=self._process.files(message),
            fault=_fault(message.get("fault")),
        )

    def _ended(self, kind: FaultKind, message: str) -> SandboxResult:
        self._end = kind
        self._process.kill()
        fault = SandboxFault(kind=kind, type="SystemError", message=message)
        return SandboxResult(files=self._process.files({}), fault=fault)


def _fault(data: Any) -> SandboxFault | None:
    """Return the fault that a process reports; what it reports wrongly is an exception."""
    if data is None:
        return None
    try:
        return msgspec.convert(data, SandboxFault)
    except msgspec.ValidationError as error:
        return SandboxFault(kind="exception", type="SystemError", message=f"{error}: {data!r:.500}")


def read_message(line: bytes) -> dict[str, Any] | None:
    """Return a line of the process as an object; None if it is not one."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None
