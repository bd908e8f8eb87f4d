"""A limit on the number of values in a JSON body, checked before the body is decoded.

An empty object is two bytes of text and a hundred bytes in memory. The longer the text, the more
values it may contain.
"""

from typing import Final

from dspex.surfaces.api.responses import RequestError

BASE_COUNT: Final = 50_000
BYTES_PER_VALUE: Final = 10  # of text, beyond the base count
_CHUNK: Final = 256 * 1024


def check_values(body: bytes) -> None:
    """Check that a JSON text contains few enough values.

    Raises:
        RequestError: it contains too many; the message states the limit.
    """
    limit = BASE_COUNT + len(body) // BYTES_PER_VALUE
    if len(body) <= limit or _separators(body) <= limit:  # counts those within strings too
        return
    if _separators_outside_strings(body) > limit:
        raise RequestError(
            f"the body contains more than {limit} values, the limit for its {len(body)} bytes; "
            "send it in parts",
            status=413,
        )


def _separators(text: bytes) -> int:
    """Return the number of commas, lists and objects: at least the number of values."""
    return text.count(b",") + text.count(b"[") + text.count(b"{")


def _separators_outside_strings(body: bytes) -> int:
    total, is_inside, rest = 0, False, b""
    for start in range(0, len(body), _CHUNK):
        chunk = rest + body[start : start + _CHUNK]
        rest = chunk[-1:] if chunk.endswith(b"\\") and _is_odd(chunk) else b""
        chunk = chunk[: len(chunk) - len(rest)].replace(b"\\\\", b"").replace(b'\\"', b"")
        parts = chunk.split(b'"')
        total += _separators(b"".join(parts[is_inside::2]))
        is_inside ^= len(parts) % 2 == 0
    return total


def _is_odd(chunk: bytes) -> bool:
    """Return whether the text ends with an odd number of backslashes, which escape what follows."""
    return (len(chunk) - len(chunk.rstrip(b"\\"))) % 2 == 1
