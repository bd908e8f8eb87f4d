"""Files that arguments name: `@inputs.json`."""

import stat
from pathlib import Path

from dspex.errors import InvalidError

MOST = 256 * 1024 * 1024


def file_text(path: Path) -> str:
    """Return the text of a file or of a pipe, such as `<(command)` makes one.

    Raises:
        InvalidError: it cannot be read, is no UTF-8, or has no end: it is a device, or longer than 256 MiB.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            raise InvalidError(f"cannot read {str(path)!r}: it is a device, which may never end; name a file")
        with path.open("rb") as file:
            data = file.read(MOST + 1)
        if len(data) > MOST:
            raise InvalidError(f"cannot read {str(path)!r}: it has more than {MOST} bytes")
        return data.decode("utf-8")
    except (OSError, ValueError, MemoryError) as error:
        raise InvalidError(f"cannot read {str(path)!r}: {error}") from error
