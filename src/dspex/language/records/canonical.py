"""One spelling of JSON for each value, and the hash over it that names contents."""

import hashlib
import json


def canonical_json(value: object) -> str:
    """Return JSON text with sorted keys, no white space and plain Unicode: equal values give equal text.

    Raises:
        TypeError: `value` is not JSON (a class instance, a set).
        ValueError: it holds NaN or an infinity, or contains itself.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def content_hash(value: object) -> str:
    """Return BLAKE2b-256 over the canonical JSON of `value`, in hexadecimal."""
    return hashlib.blake2b(canonical_json(value).encode("utf-8", "surrogatepass"), digest_size=32).hexdigest()
