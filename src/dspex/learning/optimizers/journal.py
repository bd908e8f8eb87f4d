"""What a search has done, kept so that a killed one goes on where it was."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

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
    """Keeps entries as long as the process lives."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []

    async def entries(self) -> Sequence[Entry]:
        """Return all entries, oldest first."""
        return list(self._entries)

    async def append(self, entry: Entry) -> None:
        """Add an entry."""
        self._entries.append(entry)


class JsonlJournal:
    """Keeps entries in a file, one line each; one process at a time may have it open.

    A line is written in one system call, so a killed process leaves at most one line without an
    end; it is dropped when the file is read next. With `is_synced`, each entry also survives a
    crash of the machine, at the price of a disk flush.
    """

    def __init__(self, path: str | Path, *, is_synced: bool = False) -> None:
        """Take the file, which is made with the first entry; its folder is made too."""
        self.path = Path(path)
        self._is_synced = is_synced
        self._file: int | None = None

    async def entries(self) -> Sequence[Entry]:
        """Return all entries, oldest first, and cut off a line that was never finished.

        Raises:
            ConflictError: another process searches with this file, or it is no journal.
            StorageError: it cannot be read.
        """
        try:
            data = self._whole(self._opened()) if self.path.exists() else b""
        except OSError as error:
            raise StorageError(f"the journal {str(self.path)!r} cannot be read: {error}") from error
        found: list[Entry] = []
        for number, line in enumerate(data.splitlines(), start=1):
            try:
                found.append(msgspec.json.decode(line, type=dict[str, Any]))
            except msgspec.MsgspecError as error:
                raise ConflictError(
                    f"{self.path}, line {number}: this is no journal entry ({error}); is this the "
                    "right file?"
                ) from error
        return found

    async def append(self, entry: Entry) -> None:
        """Add an entry.

        Raises:
            ConflictError: another process searches with this file.
            StorageError: it cannot be written.
        """
        try:
            file = self._opened()
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

    def _opened(self) -> int:
        """Return the file, which is this process's until it is closed."""
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
            if not _locked(file):
                os.close(file)
                raise ConflictError(
                    f"another process searches with the journal {str(self.path)!r}: wait for it, "
                    "or name another file"
                )
            self._file = file
        return self._file

    @staticmethod
    def _whole(file: int) -> bytes:
        """Read all lines that have an end, and cut off one that has none."""
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


def _locked(file: int) -> bool:
    """Make a file this process's; return False where it is another's. Systems without such locks let everybody in."""
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True
