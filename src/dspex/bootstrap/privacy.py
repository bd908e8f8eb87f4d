"""Access to the state folder for its owner only: it contains inputs, outputs and keys."""

import contextlib
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from dspex.errors import StorageError

NAME = ".dspex"
_OWN_FILES = ("dspex.sqlite3", "server.key")
_OWN_FOLDERS = ("workers",)
_GROUP_AND_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def private_folder(folder: Path, say: Callable[[str], None]) -> Path:
    """Return the state folder; it is created, or restricted to its owner, and `say` reports it.

    A folder that also contains other files keeps its mode; the files of dspex in it do not.

    Raises:
        StorageError: it cannot be created.
    """
    if not folder.is_dir():
        try:
            folder.mkdir(mode=0o700, parents=True)
        except OSError as error:
            raise StorageError(
                f"cannot make the state folder {str(folder)!r}: {error}; set DSPEX_STATE_DIR to a "
                "writable one"
            ) from error
        say(f"created {folder}/ for programs and executions")
        return folder
    is_changed = False
    try:
        for path in _own_paths(folder):
            is_changed |= _restrict(path)
    except OSError:
        say(f"{folder}/ can be read by others, and is not yours to change: chmod -R go= {folder}")
    else:
        if is_changed:
            say(f"{folder}/ could be read by others; now only you can")
    return folder


def private_file(file: Path) -> Path:
    """Return the file, created with access for its owner only; files of SQLite beside it follow.

    Raises:
        StorageError: it cannot be created.
    """
    try:
        if not file.exists():
            file.touch(mode=0o600)
    except OSError as error:
        raise StorageError(f"cannot make {str(file)!r}: {error}") from error
    return file


def _restrict(path: Path) -> bool:
    """Remove the access of others to a file; return whether they had it.

    A missing file is ignored.
    """
    with contextlib.suppress(FileNotFoundError):
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & _GROUP_AND_OTHERS:
            path.chmod(mode & ~_GROUP_AND_OTHERS)
            return True
    return False


def _own_paths(folder: Path) -> Iterator[Path]:
    """Yield the files of dspex in the state folder, and the folder if it has no other files."""
    if os.name != "posix":
        return
    is_alone = True
    for path in folder.iterdir():
        if path.name.startswith(_OWN_FILES) or path.name in _OWN_FOLDERS:
            yield path
        else:
            is_alone = False
    if is_alone or folder.name == NAME:
        yield folder
