"""The sandbox "subprocess": full Python in a process with limits. It is not safe.

Code can read what the user of the process can read. As root, the process becomes the user 65534.
Use it for code that you trust, and that needs what the sandbox "monty" lacks.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from dspex.errors import DspexError, SandboxError
from dspex.execution.sandbox.sandbox import (
    FaultKind,
    SandboxFault,
    SandboxLimits,
    SandboxResult,
    SandboxTool,
)
from dspex.execution.sandbox.values import json_value, read_files, write_files

_CHILD: Final = Path(__file__).with_name("child.py")
_LINE: Final = 64 * 1024 * 1024
_UNPRIVILEGED: Final = 65534


class SubprocessSandbox:
    """Runs code in a Python process of its own, under limits of the operating system."""

    name = "subprocess"
    is_safe = False

    @asynccontextmanager
    async def start(
        self,
        *,
        tools: Mapping[str, SandboxTool] | None = None,
        files: Mapping[str, bytes] | None = None,
        limits: SandboxLimits | None = None,
    ) -> AsyncIterator["SubprocessSession"]:
        """Start a session; see `Sandbox.start`."""
        limits = limits or SandboxLimits()
        with tempfile.TemporaryDirectory(prefix="dspex-sandbox-") as name:
            folder = Path(name)
            write_files(folder, files or {})
            if os.geteuid() == 0:
                for path in (name, *(str(folder / file) for file in files or ())):
                    os.chown(path, _UNPRIVILEGED, _UNPRIVILEGED)
            session = SubprocessSession(dict(tools or {}), limits=limits, folder=folder)
            await session.open()
            try:
                yield session
            finally:
                await session.close()

    async def aclose(self) -> None:
        """Do nothing: each session frees its process."""


class SubprocessSession:
    """One process; see `SandboxSession`."""

    def __init__(
        self, tools: Mapping[str, SandboxTool], *, limits: SandboxLimits, folder: Path
    ) -> None:
        """Take the tools, the limits and the working folder."""
        self._tools = tools
        self._limits = limits
        self._folder = folder
        self._end = ""

    async def open(self) -> None:
        """Start the process.

        Raises:
            SandboxError: it cannot be started.
        """
        limits = self._limits
        options: dict[str, Any] = {
            "memory": limits.memory_mib * 1024 * 1024,
            "seconds": limits.seconds,
            "size": limits.files_kib * 1024,
            "output": limits.output_kib * 1024,
            "tools": list(self._tools),
        }
        request_read, request_write = os.pipe()
        answer_read, answer_write = os.pipe()
        options |= {"requests": request_read, "answers": answer_write}
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-B", str(_CHILD), json.dumps(options),
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL, pass_fds=(request_read, answer_write),
                cwd=self._folder, env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
                start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise SandboxError(f"the sandbox 'subprocess' cannot be started: {error}") from error
        finally:
            os.close(request_read)
            os.close(answer_write)
        loop = asyncio.get_running_loop()
        self._answers = asyncio.StreamReader(limit=_LINE)
        self._transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(self._answers), os.fdopen(answer_read, "rb")
        )
        self._requests, _ = await loop.connect_write_pipe(
            asyncio.BaseProtocol, os.fdopen(request_write, "wb")
        )

    async def close(self) -> None:
        """Kill the process and all that it started in its session."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()
        self._transport.close()
        self._requests.close()

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
                    line = await self._answers.readline()
            except TimeoutError:
                return self._ended("time", f"the code ran longer than {self._limits.seconds} s")
            except ValueError:  # a line without an end
                return self._ended("output", "the answer is too large")
            seconds -= loop.time() - started
            message = _message(line)
            if message is None:
                return self._ended("crash", "the process has ended")
            if "call" not in message:
                return self._result(message)
            calls += 1
            if calls > self._limits.calls:
                return self._ended("calls", f"more than {self._limits.calls} calls of tools")
            self._send(await self._call(message))

    async def _call(self, message: Mapping[str, Any]) -> dict[str, Any]:
        try:
            tool = self._tools[message["call"]]
            result = await tool(*message["args"], **message["kwargs"])
            return {"result": json_value(result, f"the result of {message['call']}")}
        except DspexError as error:
            return {"error": error.public_message}
        except (KeyError, TypeError) as error:
            return {"error": f"the call cannot be made: {error}"}

    def _send(self, message: Mapping[str, Any]) -> None:
        self._requests.write(json.dumps(message).encode() + b"\n")

    def _result(self, message: Mapping[str, Any]) -> SandboxResult:
        fault, value = message.get("fault"), message.get("value")
        if len(json.dumps(value)) > self._limits.output_kib * 1024:
            return self._ended("output", "the value is too large")
        return SandboxResult(
            value=value,
            stdout=str(message.get("stdout", "")),
            files=read_files(self._folder, self._limits.files_kib * 1024),
            fault=None if fault is None else SandboxFault(**fault),
        )

    def _ended(self, kind: FaultKind, message: str) -> SandboxResult:
        self._end = kind
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        files = read_files(self._folder, self._limits.files_kib * 1024)
        fault = SandboxFault(kind=kind, type="SystemError", message=message)
        return SandboxResult(files=files, fault=fault)


def _message(line: bytes) -> dict[str, Any] | None:
    """Return a line of the process as an object; None if it is not one."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None
