"""The documents of a request: their form, limits and content hashes."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from dspex.errors import FieldError, InvalidError
from dspex.operations.framework.field_errors import field_error, invalid

MAX_DOCUMENTS: Final = 10_000
MAX_TEXT: Final = 10_000_000  # characters of one document
MAX_KEY: Final = 1_000
_MAX_METADATA: Final = 64 * 1024  # characters of their JSON form
_MAX_ERRORS: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDocument:
    """A document to add. Equal hashes mean equal texts and metadata."""

    key: str
    text: str
    metadata: dict[str, Any]
    content_hash: str


def parse_documents(documents: object) -> list[NewDocument]:
    """Return the documents of a request.

    Raises:
        InvalidError: lists the invalid ones, each with its path.
    """
    if not isinstance(documents, Sequence) or not 0 < len(documents) <= MAX_DOCUMENTS:
        raise invalid("documents", documents, f"a list of 1 to {MAX_DOCUMENTS} documents")
    parsed: list[NewDocument] = []
    errors: list[FieldError] = []
    places: dict[str, int] = {}
    for number, document in enumerate(documents):
        error = _document_error(f"documents[{number}]", document)
        if error is None and (first := places.setdefault(document["key"], number)) != number:
            expected = f"another key than documents[{first}] has"
            error = field_error(f"documents[{number}].key", document["key"], expected)
        if error is None:
            parsed.append(_parsed(document))
        elif len(errors) < _MAX_ERRORS:
            errors.append(error)
    if errors:
        text = "; ".join(f"{error.path}: {error.message}" for error in errors)
        raise InvalidError(text, errors=errors)
    return parsed


def _document_error(path: str, document: object) -> FieldError | None:
    names = {"key", "text", "metadata"}
    if not isinstance(document, Mapping) or not {"key", "text"} <= document.keys() <= names:
        return field_error(path, document, "an object with key, text and, if any, metadata")
    for name, longest in (("key", MAX_KEY), ("text", MAX_TEXT)):
        value = document[name]
        if not isinstance(value, str) or not value.strip():
            return field_error(f"{path}.{name}", value, "a text with visible characters")
        if len(value) > longest:
            message = f"it has {len(value)} characters, more than the {longest} allowed"
            hint = "" if name == "key" else "; divide it into several documents"
            return field_error(f"{path}.{name}", "", "shorter", message=message + hint)
        if not is_storable(value):
            expected = "a text without U+0000 and without halves of surrogate pairs"
            return field_error(f"{path}.{name}", value, expected)
    return _metadata_error(f"{path}.metadata", document.get("metadata", {}))


def _metadata_error(path: str, metadata: object) -> FieldError | None:
    expected = f"an object of JSON values with at most {_MAX_METADATA} characters"
    if not isinstance(metadata, dict):
        return field_error(path, metadata, expected)
    try:
        text = json.dumps(metadata, allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        return field_error(path, metadata, expected)
    if len(text) > _MAX_METADATA or not is_storable(text) or "\\u0000" in text:
        return field_error(path, metadata, expected)
    return None


def is_storable(text: str) -> bool:
    """Return whether every database can store a text."""
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False


def _parsed(document: Mapping[str, Any]) -> NewDocument:
    key, text, metadata = document["key"], document["text"], document.get("metadata", {})
    content = json.dumps([text, metadata], sort_keys=True, ensure_ascii=False)
    return NewDocument(
        key=key,
        text=text,
        metadata=metadata,
        content_hash=hashlib.sha256(content.encode()).hexdigest(),
    )
