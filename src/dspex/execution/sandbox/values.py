"""Values and files that cross the border of a sandbox."""

import datetime
import math
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from dspex.errors import SandboxError

_DEPTH: Final = 50
MOST_FILES: Final = 100
_SCALARS: Final = (str, bool, int, type(None))


def json_value(value: Any, what: str, *, depth: int = 0) -> Any:
    """Return a value as JSON data: tuples and sets as lists, dates as ISO texts.

    Raises:
        SandboxError: a part has no JSON form, or is nested too deeply; the message starts with
            `what`.
    """
    if isinstance(value, _SCALARS):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if depth == _DEPTH:
        raise SandboxError(f"{what} is nested more than {_DEPTH} levels deep")
    if isinstance(value, list | tuple | set | frozenset):
        return [json_value(part, what, depth=depth + 1) for part in value]
    if isinstance(value, Mapping):
        return {
            _key(key, what): json_value(part, what, depth=depth + 1) for key, part in value.items()
        }
    raise SandboxError(
        f"{what} must consist of texts, numbers, lists and mappings, but holds a "
        f"{type(value).__name__}"
    )


def _key(key: Any, what: str) -> str:
    if isinstance(key, str):
        return key
    if isinstance(key, bool | int | float | type(None)):
        return str(key)
    raise SandboxError(f"{what} has a key of type {type(key).__name__}; use texts")


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write the files of a session into its folder.

    Raises:
        SandboxError: a name is not a plain file name.
    """
    for name, content in files.items():
        check_file_name(name)
        (folder / name).write_bytes(content)


def check_file_name(name: str) -> None:
    """Raise unless a name is a plain file name.

    Raises:
        SandboxError: it is not.
    """
    if name != Path(name).name or name in {"", ".", ".."} or "\x00" in name:
        raise SandboxError(f"the file name {name!r} is not a plain name without folders")


def read_files(folder: Path, most: int) -> dict[str, bytes]:
    """Return the regular files in the folder of a session, the first `most` bytes together.

    Links, folders and files that do not fit are left out: their content is the code's.
    """
    files: dict[str, bytes] = {}
    for name in sorted(os.listdir(folder))[:MOST_FILES]:
        try:
            descriptor = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:  # a link, or not readable
            continue
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(file.fileno())
            if stat.S_ISREG(status.st_mode) and status.st_size <= most:
                files[name] = file.read(most)
                most -= len(files[name])
    return files
