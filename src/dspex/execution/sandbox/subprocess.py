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

from dspex.errors import SandboxError
from dspex.execution.sandbox.line_session import LONGEST_LINE, LineSession
from dspex.execution.sandbox.sandbox import SandboxLimits, SandboxTool
from dspex.execution.sandbox.values import read_files, write_files

_CHILD: Final = Path(__file__).with_name("child.py")
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
    ) -> AsyncIterator[LineSession]:
        """Start a session; see `Sandbox.start`."""
        limits = limits or SandboxLimits()
        with tempfile.TemporaryDirectory(prefix="dspex-sandbox-") as name:
            folder = Path(name)
            write_files(folder, files or {})
            if os.geteuid() == 0:
                for path in (name, *(str(folder / file) for file in files or ())):
                    os.chown(path, _UNPRIVILEGED, _UNPRIVILEGED)
            process = SubprocessProcess(limits=limits, folder=folder)
            await process.open(list(tools or {}))
            try:
                yield LineSession(process, dict(tools or {}), limits)
            finally:
                await process.close()

    async def aclose(self) -> None:
        """Do nothing: each session frees its process."""


class SubprocessProcess:
    """One Python; see `LineProcess`."""

    answers: asyncio.StreamReader
    requests: asyncio.WriteTransport

    def __init__(self, *, limits: SandboxLimits, folder: Path) -> None:
        """Take the limits and the working folder."""
        self._limits = limits
        self._folder = folder

    async def open(self, tools: list[str]) -> None:
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
            "tools": tools,
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
        self.answers = asyncio.StreamReader(limit=LONGEST_LINE)
        self._transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(self.answers), os.fdopen(answer_read, "rb")
        )
        self.requests, _ = await loop.connect_write_pipe(
            asyncio.BaseProtocol, os.fdopen(request_write, "wb")
        )

    def files(self, message: Mapping[str, Any]) -> dict[str, bytes]:
        """See `LineProcess.files`."""
        del message
        return read_files(self._folder, self._limits.files_kib * 1024)

    def kill(self) -> None:
        """Kill the process and all that it started in its session."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    async def close(self) -> None:
        """Kill the process, and wait for its end."""
        self.kill()
        await self._process.wait()
        self._transport.close()
        self.requests.close()
