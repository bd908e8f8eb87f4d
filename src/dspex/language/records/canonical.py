"""JSON: one spelling for each value, with the hash over it that names contents, and the way it is sent."""

import hashlib
import json
from collections.abc import Callable, Iterable

import msgspec


def canonical_json(value: object) -> str:
    """Return JSON text with sorted keys, no white space and plain Unicode: equal values give equal text.

    Raises:
        TypeError: `value` is not JSON (a class instance, a set).
        ValueError: it holds NaN or an infinity, or contains itself.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def json_bytes(value: object, *, unknown: Callable[[object], object] | None = None) -> bytes:
    """Return JSON as it is sent: half of a surrogate pair, which a model may have written, is escaped in it.

    `unknown` gives what is written in place of a value that has no JSON form.

    Raises:
        TypeError: there is such a value, and no `unknown`.
    """
    try:
        return msgspec.json.encode(value, enc_hook=unknown)
    except UnicodeEncodeError:
        return json.dumps(msgspec.to_builtins(value, enc_hook=unknown)).encode()


def content_hash(value: object) -> str:
    """Return BLAKE2b-256 over the canonical JSON of `value`, in hexadecimal."""
    return hashlib.blake2b(canonical_json(value).encode("utf-8", "surrogatepass"), digest_size=32).hexdigest()


def list_hash(values: Iterable[object]) -> str:
    """Return the `content_hash` of the list of `values`, of which one at a time is in memory."""
    digest = hashlib.blake2b(b"[", digest_size=32)
    for index, value in enumerate(values):
        digest.update(f"{',' if index else ''}{canonical_json(value)}".encode("utf-8", "surrogatepass"))
    digest.update(b"]")
    return digest.hexdigest()
