"""Rows of csv, jsonl and json files."""

import csv
import io
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from dspex.errors import DefinitionError
from dspex.language.signatures.depth import DEPTH_LIMIT, is_too_deep

_MOST_BYTES = 2 * 1024**3
_NAMES = 20


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a `.csv`, `.jsonl` or `.json` file; csv values are text.

    Raises:
        DefinitionError: the message names the file, the line and the fix.
    """
    if path.suffix.lower() not in _READERS:
        kind = f"a {path.suffix} file" if path.suffix else "a file without extension"
        raise DefinitionError(f"{path}: {kind} cannot be read; use .csv, .jsonl or .json")
    rows = list(parse_rows(path, file_bytes(path)))
    if not rows:
        raise DefinitionError(f"{path} has no rows")
    return rows


def parse_rows(path: Path, data: bytes) -> Iterator[dict[str, Any]]:
    """Yield the rows in the contents of a file with this path.

    Raises:
        DefinitionError: see `read_rows`.
    """
    yield from _READERS[path.suffix.lower()](path, decode_text(path, data))


def file_bytes(path: Path, *, limit: int = _MOST_BYTES) -> bytes:
    """Return the contents of a regular file of at most `limit` bytes.

    Raises:
        DefinitionError: the file does not exist, is too large, or is not a regular file.
    """
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise DefinitionError(f"{path}: this is a folder; use a file in it")
        if not stat.S_ISREG(status.st_mode):
            raise DefinitionError(
                f"{path}: this is a device or a pipe, which may never end; save it as a file first"
            )
        if status.st_size > limit:
            raise DefinitionError(
                f"{path}: {status.st_size} bytes are more than the {limit} allowed; split it"
            )
        return path.read_bytes()
    except FileNotFoundError:
        raise DefinitionError(f"{path}: there is no such file") from None
    except MemoryError as error:
        raise DefinitionError(f"{path}: it does not fit into memory; split it") from error
    except (OSError, ValueError) as error:
        raise DefinitionError(f"{path}: cannot be read: {error}") from error


def decode_text(path: Path, data: bytes) -> str:
    """Return the contents of a file as text.

    Raises:
        DefinitionError: they are not UTF-8.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise DefinitionError(
            f"{path}, line {line}: this is not UTF-8; save the file as UTF-8"
        ) from error


def _csv_rows(path: Path, text: str) -> Iterator[dict[str, Any]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] | None = None
    try:
        for row in reader:
            if not row:
                continue
            if header is None:
                header = _header(path, row)
                continue
            if len(row) != len(header):
                raise DefinitionError(
                    f"{path}, line {reader.line_num}: {len(row)} values for {len(header)} columns "
                    f"({join_names(header)}); put a value with a comma into double quotes"
                )
            yield dict(zip(header, row, strict=True))
    except csv.Error as error:
        raise DefinitionError(
            f"{path}, line {reader.line_num}: {error}; check that every double quote is closed, "
            "and doubled inside a value"
        ) from error


def _header(path: Path, row: list[str]) -> list[str]:
    names = [name.strip() for name in row]
    if "" in names:
        raise DefinitionError(
            f"{path}, line 1: column {names.index('') + 1} has no name; the first line names the "
            "columns"
        )
    if duplicates := sorted(name for name, count in Counter(names).items() if count > 1):
        raise DefinitionError(
            f"{path}, line 1: two columns are named {duplicates[0]!r}; rename one of them"
        )
    return names


def join_names(names: Sequence[str]) -> str:
    """Return the names of columns with commas; of very many, only the first ones."""
    suffix = f" and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
    return ", ".join(names[:_NAMES]) + suffix


def _jsonl_rows(path: Path, text: str) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield _object(_decode(line, f"{path}, line {number}"), f"{path}, line {number}")


def _json_rows(path: Path, text: str) -> Iterator[dict[str, Any]]:
    data = _decode(text, str(path))
    if not isinstance(data, list):
        raise DefinitionError(f"{path}: expected a list of objects, one per row, not {_kind(data)}")
    for number, item in enumerate(data):
        yield _object(item, f"{path}, item {number}")


def _decode(text: str, where: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise DefinitionError(f"{where}: this is not JSON: {error}") from error
    except RecursionError:
        raise DefinitionError(
            f"{where}: lists and objects are nested deeper than {DEPTH_LIMIT} levels"
        ) from None


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DefinitionError(
            f"{where}: expected an object with a value per field, not {_kind(value)}"
        )
    if is_too_deep(value):
        raise DefinitionError(
            f"{where}: lists and objects are nested deeper than {DEPTH_LIMIT} levels"
        )
    return value


def _kind(value: Any) -> str:
    return f"a {type(value).__name__}"


_READERS = {".csv": _csv_rows, ".jsonl": _jsonl_rows, ".json": _json_rows}
