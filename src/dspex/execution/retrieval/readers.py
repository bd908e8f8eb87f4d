"""The readers of files and their registry. A new reader is a function, and a line here."""

import glob
import io
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from dspex.arguments import checks_names
from dspex.errors import ConfigurationError, DefinitionError
from dspex.execution.retrieval.html_text import html_text
from dspex.execution.retrieval.row_files import decode_text, file_bytes, parse_rows

MAX_FILE_BYTES: Final = 64 * 1024**2
_KEYS: Final = ("key", "id")
_TEXT: Final = "text"
_QUIET: Final = logging.NullHandler()
_NUMBER: Final = re.compile(r"-?(0|[1-9]\d{0,14})(\.\d{1,15})?")


class SourceDocument(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A document to search in: its key in the collection, its text, and what is known about it."""

    key: str
    text: str
    metadata: dict[str, Any] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class FileReader:
    """Reads one format: `read` yields the documents in the contents of a file."""

    name: str
    suffixes: tuple[str, ...]
    read: Callable[[Path, bytes], Iterable[SourceDocument]]


@checks_names
def read_files(
    patterns: str | Path | Sequence[str | Path], *, limit: int = MAX_FILE_BYTES
) -> Iterator[SourceDocument]:
    """Yield the documents of files, patterns (`handbook/*.md`) and folders, each file once.

    A file of text, Markdown, HTML or PDF is one document, whose key is its path; each row of a
    table is one, see `document_of_row`. Of a folder, the files with known suffixes are read.

    Raises:
        DefinitionError: nothing matches a pattern, or a file cannot be read; the message names it.
    """
    paths: dict[Path, None] = {}
    for pattern in [patterns] if isinstance(patterns, str | Path) else patterns:
        paths |= dict.fromkeys(matching_files(pattern))
    for path in paths:
        yield from read_file(path, limit=limit)


def read_file(path: Path, *, limit: int = MAX_FILE_BYTES) -> list[SourceDocument]:
    """Return the documents of one file.

    Raises:
        DefinitionError: it cannot be read, is too large, or is not what its suffix says.
    """
    reader = _reader_of(path)
    return list(reader.read(path, file_bytes(path, limit=limit)))


def parse_file(name: str, data: bytes, *, limit: int = MAX_FILE_BYTES) -> list[SourceDocument]:
    """Return the documents in contents that a file with this name has, such as an upload.

    Raises:
        DefinitionError: see `read_file`.
    """
    path = Path(name)
    reader = _reader_of(path)
    if len(data) > limit:
        raise DefinitionError(f"{name}: {len(data)} bytes are more than the {limit} allowed")
    return list(reader.read(path, data))


def document_of_row(row: Mapping[str, Any], *, default_key: str) -> SourceDocument:
    """Return a row as a document.

    The column "key" (or "id") is its key, and "text" its text; the other columns are its metadata.
    Without a column "text", the text has a line `name: value` for each column.
    """
    name = next((name for name in _KEYS if row.get(name) not in {None, ""}), None)
    metadata = {column: value for column, value in row.items() if column not in {name, _TEXT}}
    text = row.get(_TEXT)
    if not isinstance(text, str):
        text = "\n".join(f"{column}: {value}" for column, value in metadata.items())
    key = default_key if name is None else str(row[name])
    return SourceDocument(key=key, text=text, metadata=metadata)


def _with_numbers(documents: Iterable[SourceDocument]) -> list[SourceDocument]:
    """Return documents of a CSV file with numbers in the metadata that are numbers.

    A CSV file holds only text. A column is numbers if each of its values is one, as JSON writes it,
    or empty (then the document lacks it), so that "007" and a column of mixed codes stay text.
    """
    documents = list(documents)
    for column in [column for column in documents[0].metadata if _are_numbers(column, documents)]:
        for document in documents:
            if text := document.metadata.pop(column, ""):
                document.metadata[column] = float(text) if "." in text else int(text)
    return documents


def _are_numbers(column: str, documents: Iterable[SourceDocument]) -> bool:
    texts = [text for document in documents if (text := document.metadata.get(column))]
    return bool(texts) and all(map(_NUMBER.fullmatch, texts))


def matching_files(pattern: str | Path) -> Iterator[Path]:
    """Yield the files that a path, a pattern or a folder means.

    Raises:
        DefinitionError: nothing matches.
    """
    path = Path(pattern)
    problem = "there is no such file, and no file matches the pattern"
    if path.is_dir():
        paths = [item for item in sorted(path.rglob("*")) if item.suffix.lower() in _BY_SUFFIX]
        problem = f"no file in this folder can be read; suffixes are: {_SUFFIXES}"
    else:
        paths = [path] if path.exists() else [Path(name) for name in _glob(str(pattern))]
    if not paths:
        raise DefinitionError(f"{pattern}: {problem}")
    yield from paths


def _glob(pattern: str) -> list[str]:
    return sorted(name for name in glob.glob(pattern, recursive=True) if Path(name).is_file())


def _reader_of(path: Path) -> FileReader:
    reader = _BY_SUFFIX.get(path.suffix.lower())
    if reader is None:
        kind = f"a {path.suffix} file" if path.suffix else "a file without extension"
        raise DefinitionError(f"{path}: {kind} cannot be read; suffixes are: {_SUFFIXES}")
    return reader


def _read_text(path: Path, data: bytes) -> Iterator[SourceDocument]:
    yield SourceDocument(key=path.as_posix(), text=decode_text(path, data))


def _read_html(path: Path, data: bytes) -> Iterator[SourceDocument]:
    title, text = html_text(decode_text(path, data))
    metadata = {"title": title} if title else {}
    yield SourceDocument(key=path.as_posix(), text=text, metadata=metadata)


def _read_rows(path: Path, data: bytes) -> Iterator[SourceDocument]:
    keys: set[str] = set()
    for number, row in enumerate(parse_rows(path, data), start=1):
        document = document_of_row(row, default_key=f"{path.as_posix()}#{number}")
        if document.key in keys:
            raise DefinitionError(
                f"{path}, row {number}: another row has the key {document.key!r}; keys are unique"
            )
        keys.add(document.key)
        yield document
    if not keys:
        raise DefinitionError(f"{path}: this file has no rows")


def _read_csv(path: Path, data: bytes) -> list[SourceDocument]:
    return _with_numbers(_read_rows(path, data))


def _read_pdf(path: Path, data: bytes) -> Iterator[SourceDocument]:
    try:
        from pypdf import PdfReader
    except ImportError as error:
        raise ConfigurationError(
            f"{path}: a PDF is read by pypdf; install it with: pip install 'dspex[embed]'"
        ) from error
    logging.getLogger("pypdf").addHandler(_QUIET)  # otherwise it prints what the error says
    try:
        pages = [page.extract_text() for page in PdfReader(io.BytesIO(data)).pages]
    except Exception as error:  # pypdf raises anything on a corrupt file
        raise DefinitionError(
            f"{path}: this PDF cannot be read ({type(error).__name__}: {str(error)[:200]}); it is "
            "corrupt, encrypted, or not a PDF"
        ) from error
    text = "\n\n".join(pages)
    if not text.strip():
        raise DefinitionError(f"{path}: this PDF has no text; scanned pages need OCR first")
    yield SourceDocument(key=path.as_posix(), text=text, metadata={"pages": len(pages)})


READERS: Mapping[str, FileReader] = {
    reader.name: reader
    for reader in (
        FileReader(name="text", suffixes=(".txt", ".text", ".log", ".rst"), read=_read_text),
        FileReader(name="markdown", suffixes=(".md", ".markdown"), read=_read_text),
        FileReader(name="html", suffixes=(".html", ".htm"), read=_read_html),
        FileReader(name="csv", suffixes=(".csv",), read=_read_csv),
        FileReader(name="jsonl", suffixes=(".jsonl",), read=_read_rows),
        FileReader(name="pdf", suffixes=(".pdf",), read=_read_pdf),
    )
}
_BY_SUFFIX = {suffix: reader for reader in READERS.values() for suffix in reader.suffixes}
_SUFFIXES = ", ".join(sorted(_BY_SUFFIX))
