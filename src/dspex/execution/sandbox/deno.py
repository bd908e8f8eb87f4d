"""The sandbox "deno": CPython in WebAssembly (Pyodide), in a deno process without permissions.

The process may only read the files of Pyodide: it has no access to other files, the network, the
environment or other processes, and it needs none.
"""

import asyncio
import base64
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from dspex.arguments import checks_names
from dspex.errors import ConfigurationError, SandboxError
from dspex.execution.sandbox.line_session import LONGEST_LINE, LineSession, read_message
from dspex.execution.sandbox.sandbox import SandboxLimits, SandboxTool
from dspex.execution.sandbox.values import MOST_FILES, check_file_name

_HOST: Final = Path(__file__).with_name("deno_host.mjs")
_RUNNER: Final = Path(__file__).with_name("runner.py")
_OPTIONS: Final = (
    "--no-prompt",
    "--no-remote",
    "--no-npm",
    "--cached-only",
    "--no-config",
    "--no-lock",
)
_START: Final = 120.0  # seconds to load Pyodide, on a busy machine
_ROOM: Final = 256 * 1024 * 1024  # beside the memory of the code: JavaScript and compiled code


@checks_names
class DenoSandbox:
    """Runs code in Pyodide, each session in a process of its own.

    Pyodide needs time to load, so `spares` processes are started ahead: one when the first
    session starts, another whenever a session takes one. They end with this process, or by
    `aclose`.
    """

    name = "deno"
    is_safe = True

    def __init__(
        self, *, deno: Path | None = None, pyodide: Path | None = None, spares: int = 1
    ) -> None:
        """Take the program, the folder of the npm package "pyodide", and the number of spares.

        By default, the program is searched beside Python and in PATH; the package in the
        `node_modules` of the working folder, of those above it, and of Python's environment.
        """
        self._deno = deno
        self._pyodide = pyodide
        self._count = spares
        self._spares: list[DenoProcess] = []
        self._remove_folder: weakref.finalize[..., DenoSandbox] | None = None
        self._command: list[str] = []
        self._lock = threading.Lock()

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
        for name in files or {}:
            check_file_name(name)
        process = await asyncio.to_thread(self._take)
        try:
            await process.open(list(tools or {}), files or {}, limits)
            yield LineSession(process, dict(tools or {}), limits)
        finally:
            await process.close()

    async def aclose(self) -> None:
        """End the spare processes."""
        with self._lock:
            spares, self._spares = self._spares, []
            self._command = []
        for process in spares:
            await process.close()
        if self._remove_folder is not None:
            await asyncio.to_thread(self._remove_folder)

    def _take(self) -> "DenoProcess":
        """Return a process, a spare one if there is one; start the missing spares."""
        with self._lock:
            if not self._command:
                self._prepare()
            process = None
            while self._spares and process is None:
                spare = self._spares.pop(0)
                if spare.is_alive():
                    process = spare
                else:
                    spare.discard()
            process = process or DenoProcess(self._command)
            while len(self._spares) < self._count:
                self._spares.append(DenoProcess(self._command))
            return process

    def _prepare(self) -> None:
        """Set the command that starts sessions, from a snapshot of Pyodide where possible.

        Pyodide loads ten times faster from a snapshot of its memory. A version that cannot make
        one loads in full.
        """
        deno, pyodide = self._deno or find_deno(), self._pyodide or find_pyodide()
        folder = Path(tempfile.mkdtemp(prefix="dspex-deno-"))
        self._remove_folder = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        snapshot = folder / "snapshot"
        runner = _RUNNER.read_text(encoding="utf-8")
        script = [str(_HOST), str(pyodide), runner, str(snapshot)]
        run = [str(deno), "run", *_OPTIONS]
        permissions = [f"--allow-read={pyodide}", f"--allow-write={snapshot}"]
        try:
            subprocess.run(  # noqa: S603  # no code of a session
                [*run, *permissions, *script, "make"], env=environment(folder), timeout=_START,
                stdin=subprocess.DEVNULL, capture_output=True, check=False,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            raise SandboxError(f"the sandbox 'deno' cannot be started: {error}") from error
        may_read = f"--allow-read={pyodide},{snapshot}"
        mode = "load" if snapshot.is_file() else "none"
        self._command = [*run, may_read, *script, mode]


def environment(folder: Path) -> dict[str, str]:
    """Return the environment of deno, which code cannot read."""
    return {"DENO_DIR": str(folder), "DENO_NO_UPDATE_CHECK": "1", "NO_COLOR": "1"}


class DenoProcess:
    """One deno with Pyodide; see `LineProcess`. It belongs to no event loop until it is opened."""

    answers: asyncio.StreamReader
    requests: asyncio.WriteTransport

    def __init__(self, command: list[str]) -> None:
        """Start it; the folder of its snapshot is also that of deno.

        Raises:
            SandboxError: it cannot be started.
        """
        self._reader: asyncio.ReadTransport | None = None
        try:
            self._process = subprocess.Popen(  # noqa: S603  # deno, with what it may do
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL, env=environment(Path(command[-2]).parent),
                start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise SandboxError(f"the sandbox 'deno' cannot be started: {error}") from error

    def is_alive(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    async def open(
        self, tools: list[str], files: Mapping[str, bytes], limits: SandboxLimits
    ) -> None:
        """Wait until Pyodide is loaded, and begin the session.

        Raises:
            SandboxError: it does not load.
        """
        self._limits = limits
        loop = asyncio.get_running_loop()
        self.answers = asyncio.StreamReader(limit=LONGEST_LINE)
        self._reader, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(self.answers), self._process.stdout
        )
        self.requests, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, self._process.stdin)
        try:
            async with asyncio.timeout(_START):
                message = read_message(await self.answers.readline())
        except TimeoutError:
            message = None
        if message is None or "ready" not in message:
            raise SandboxError(
                "the sandbox 'deno' cannot be started: Pyodide does not load within "
                f"{_START:.0f} s; `dspex doctor` shows what is installed"
            )
        self._limit_memory(limits.memory_mib * 1024 * 1024)
        options = {
            "tools": tools,
            "memory": limits.memory_mib * 1024 * 1024,
            "output": limits.output_kib * 1024,
            "size": limits.files_kib * 1024,
            "files": {name: base64.b64encode(data).decode() for name, data in files.items()},
        }
        self.requests.write(json.dumps(options).encode() + b"\n")

    def _limit_memory(self, size: int) -> None:
        """Limit what code takes outside of Python's memory, which Pyodide limits itself."""
        if sys.platform == "linux":
            import resource

            status = Path(f"/proc/{self._process.pid}/status").read_text(encoding="ascii")
            used = next(int(line.split()[1]) for line in status.splitlines() if "VmData" in line)
            most = used * 1024 + size + _ROOM
            resource.prlimit(self._process.pid, resource.RLIMIT_DATA, (most, most))

    def files(self, message: Mapping[str, Any]) -> dict[str, bytes]:
        """See `LineProcess.files`."""
        files: dict[str, bytes] = {}
        left = self._limits.files_kib * 1024
        data = message.get("files")
        for name, text in list(data.items())[:MOST_FILES] if isinstance(data, dict) else ():
            # names and contents come from the code
            with contextlib.suppress(SandboxError, ValueError, TypeError):
                check_file_name(name)
                content = base64.b64decode(text, validate=True)
                if len(content) <= left:
                    files[name] = content
                    left -= len(content)
        return files

    def kill(self) -> None:
        """See `LineProcess.kill`."""
        self._process.kill()

    async def close(self) -> None:
        """Kill the process, and wait for its end."""
        self.kill()
        if self._reader is not None:
            self._reader.close()
            self.requests.close()
        await asyncio.to_thread(self.discard)

    def discard(self) -> None:
        """Wait for the end of a killed process that no event loop has, and close its pipes."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None and self._reader is None:
                pipe.close()
        self._process.wait()


def find_deno() -> Path:
    """Return the program deno: beside Python, where pip installs it, or in PATH.

    Raises:
        ConfigurationError: there is none.
    """
    beside = Path(sys.executable).parent / "deno"
    place = str(beside) if os.access(beside, os.X_OK) else shutil.which("deno")
    if place is None:
        raise ConfigurationError(
            "the sandbox 'deno' needs the program deno: pip install 'dspex[deno]'"
        )
    return Path(place)


def find_pyodide() -> Path:
    """Return the folder of the npm package "pyodide".

    Raises:
        ConfigurationError: there is none.
    """
    for folder in _folders():
        package = folder / "node_modules" / "pyodide"
        if (package / "pyodide.asm.wasm").is_file():
            return package.resolve()
    raise ConfigurationError(
        "the sandbox 'deno' needs the files of Pyodide, once: "
        f"npm install --prefix {sys.prefix} pyodide"
    )


def _folders() -> Iterator[Path]:
    here = Path.cwd()
    yield from (here, *here.parents, Path(sys.prefix))
