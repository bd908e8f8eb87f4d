"""Canonical JSON, content hashes, and JSON as bytes to send."""

import hashlib
import json
from collections.abc import Callable, Iterable

import msgspec


def canonical_json(value: object) -> str:
    """Return JSON with sorted keys, no white space and plain Unicode: equal values give equal text.

    Raises:
        TypeError: `value` is not JSON (a class instance, a set).
        ValueError: `value` has NaN or an infinity, or contains itself.
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def json_bytes(value: object, *, unknown: Callable[[object], object] | None = None) -> bytes:
    """Return JSON as bytes; a lone surrogate, which a model may write, is escaped.

    `unknown` converts values that have no JSON form.

    Raises:
        TypeError: a value has no JSON form, and there is no `unknown`.
    """
    try:
        return msgspec.json.encode(value, enc_hook=unknown)
    except UnicodeEncodeError:
        return json.dumps(msgspec.to_builtins(value, enc_hook=unknown)).encode()


def content_hash(value: object) -> str:
    """Return BLAKE2b-256 over the canonical JSON of `value`, in hexadecimal."""
    return hashlib.blake2b(
        canonical_json(value).encode("utf-8", "surrogatepass"), digest_size=32
    ).hexdigest()


def list_hash(values: Iterable[object]) -> str:
    """Return the `content_hash` of the list of `values`, with one value in memory at a time."""
    digest = hashlib.blake2b(b"[", digest_size=32)
    for index, value in enumerate(values):
        digest.update(
            f"{',' if index else ''}{canonical_json(value)}".encode("utf-8", "surrogatepass")
        )
    digest.update(b"]")
    return digest.hexdigest()
