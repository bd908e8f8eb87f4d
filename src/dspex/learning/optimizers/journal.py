"""The journal of a search: a killed search goes on from it."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from dspex.arguments import checks_names
from dspex.errors import ConflictError, StorageError

Entry = Mapping[str, Any]


class Journal(Protocol):
    """Keeps JSON objects in order. One search writes to it at a time.

    An entry that `append` returned from survives the death of the process.
    """

    async def entries(self) -> Sequence[Entry]:
        """Return all entries, oldest first.

        Raises:
            StorageError: they cannot be read.
        """
        ...

    async def append(self, entry: Entry) -> None:
        """Add an entry.

        Raises:
            StorageError: it cannot be written.
        """
        ...


class MemoryJournal:
    """Keeps entries in memory."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []

    async def entries(self) -> Sequence[Entry]:
        """Return all entries, oldest first."""
        return list(self._entries)

    async def append(self, entry: Entry) -> None:
        """Add an entry."""
        self._entries.append(entry)


@checks_names
class JsonlJournal:
    """Keeps entries in a file, one line each; one process at a time may have it open.

    A line is written in one system call, so a killed process leaves at most one line without an
    end; it is dropped when the file is read next. With `is_synced`, each entry also survives a
    crash of the machine, at the price of a disk flush.
    """

    def __init__(self, path: str | Path, *, is_synced: bool = False) -> None:
        """Take the file; it and its folder are created with the first entry."""
        self.path = Path(path)
        self._is_synced = is_synced
        self._file: int | None = None

    async def entries(self) -> Sequence[Entry]:
        """Return all entries, oldest first, and cut off an unfinished line.

        Raises:
            ConflictError: another process searches with this file, or it is not a journal.
            StorageError: it cannot be read.
        """
        try:
            data = self._read(self._open()) if self.path.exists() else b""
        except OSError as error:
            raise StorageError(f"the journal {str(self.path)!r} cannot be read: {error}") from error
        entries: list[Entry] = []
        for number, line in enumerate(data.splitlines(), start=1):
            try:
                entries.append(msgspec.json.decode(line, type=dict[str, Any]))
            except msgspec.MsgspecError as error:
                raise ConflictError(
                    f"{self.path}, line {number}: this is not a journal entry ({error}); is this "
                    "the right file?"
                ) from error
        return entries

    async def append(self, entry: Entry) -> None:
        """Add an entry.

        Raises:
            ConflictError: another process searches with this file.
            StorageError: it cannot be written.
        """
        try:
            file = self._open()
            line = msgspec.json.encode(entry) + b"\n"
            size = os.fstat(file).st_size
            if os.write(file, line) < len(line):
                os.truncate(self.path, size)
                raise StorageError(
                    f"the journal {str(self.path)!r} cannot be written: the disk is full"
                )
            if self._is_synced:
                os.fsync(file)
        except OSError as error:
            raise StorageError(
                f"the journal {str(self.path)!r} cannot be written: {error}"
            ) from error

    def _open(self) -> int:
        """Return the file, locked for this process until it is closed."""
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
            if not _lock(file):
                os.close(file)
                raise ConflictError(
                    f"another process searches with the journal {str(self.path)!r}: wait for it, "
                    "or name another file"
                )
            self._file = file
        return self._file

    @staticmethod
    def _read(file: int) -> bytes:
        """Return all complete lines, and cut off an unfinished one."""
        size = os.fstat(file).st_size
        data = b""
        while len(data) < size and (part := os.pread(file, size - len(data), len(data))):
            data += part
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            os.truncate(file, len(whole))
        return whole

    def close(self) -> None:
        """Close the file; the next `append` opens it again."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __enter__(self) -> "JsonlJournal":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _lock(file: int) -> bool:
    """Lock a file for this process; return False if another process has it.

    Systems without such locks let every process in.
    """
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True
