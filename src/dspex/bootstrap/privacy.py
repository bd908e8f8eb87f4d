"""The state folder for its owner alone: it holds inputs, outputs and keys."""

import contextlib
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from dspex.errors import StorageError

NAME = ".dspex"
_OURS = ("dspex.sqlite3", "server.key")
_FOLDERS = ("workers",)
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def private_folder(folder: Path, say: Callable[[str], None]) -> Path:
    """Return the state folder, which only its owner can read: it is made so, or made so again, and `say` is told.

    A folder that holds other things too keeps its mode; what dspex has in it does not.

    Raises:
        StorageError: it cannot be made.
    """
    if not folder.is_dir():
        try:
            folder.mkdir(mode=0o700, parents=True)
        except OSError as error:
            raise StorageError(
                f"cannot make the state folder {str(folder)!r}: {error}; set DSPEX_STATE_DIR to a writable one"
            ) from error
        say(f"made {folder}/ for programs and executions")
        return folder
    is_changed = False
    try:
        for path in _ours(folder):
            is_changed |= _close(path)
    except OSError:
        say(f"{folder}/ can be read by others, and is not yours to change: chmod -R go= {folder}")
    else:
        if is_changed:
            say(f"{folder}/ could be read by others; now only you can")
    return folder


def private_file(file: Path) -> Path:
    """Return a file that only its owner can read, where it is made here; what SQLite puts beside it has its mode.

    Raises:
        StorageError: it cannot be made.
    """
    try:
        if not file.exists():
            file.touch(mode=0o600)
    except OSError as error:
        raise StorageError(f"cannot make {str(file)!r}: {error}") from error
    return file


def _close(path: Path) -> bool:
    """Let only the owner use a file; return whether others could. One that is gone meanwhile is none."""
    with contextlib.suppress(FileNotFoundError):
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & _OTHERS:
            path.chmod(mode & ~_OTHERS)
            return True
    return False


def _ours(folder: Path) -> Iterator[Path]:
    """Yield what of the state folder is dspex's own: its files, and itself where it holds nothing else."""
    if os.name != "posix":
        return
    is_alone = True
    for path in folder.iterdir():
        if path.name.startswith(_OURS) or path.name in _FOLDERS:
            yield path
        else:
            is_alone = False
    if is_alone or folder.name == NAME:
        yield folder
