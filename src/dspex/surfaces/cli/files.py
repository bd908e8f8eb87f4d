"""Files named in arguments: `@inputs.json`, `--output program.json`."""

import stat
from pathlib import Path

from dspex.errors import InvalidError, StorageError, boundary

MAX_BYTES = 256 * 1024 * 1024


def read_text_file(path: Path) -> str:
    """Return the text of a file or a pipe, such as `<(command)`.

    Raises:
        InvalidError: it cannot be read, is not UTF-8, is a device, or is longer than 256 MiB.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            raise InvalidError(
                f"cannot read {str(path)!r}: it is a device, which may never end; name a file"
            )
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise InvalidError(f"cannot read {str(path)!r}: it has more than {MAX_BYTES} bytes")
        return data.decode("utf-8")
    except (OSError, ValueError, MemoryError) as error:
        raise InvalidError(f"cannot read {str(path)!r}: {error}") from error


def write_text_file(path: Path, text: str) -> None:
    """Write a text file.

    Raises:
        StorageError: it cannot be written.
    """
    with boundary(StorageError, f"{str(path)!r} cannot be written"):
        path.write_text(text, encoding="utf-8")
