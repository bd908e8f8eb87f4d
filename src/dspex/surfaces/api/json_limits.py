"""How many values a JSON body may hold: in memory each is many times its text.

An empty object is two bytes of text and a hundred in memory. A body is looked through before it is
decode_json: the more text, the more values it may hold.
"""

from typing import Final

from dspex.errors import InvalidError

FIXED: Final = 50_000
BYTES_EACH: Final = 10  # of text, beyond the fixed number
_CHUNK: Final = 256 * 1024


def check_values(body: bytes) -> None:
    """Raise unless a JSON text holds few enough values.

    Raises:
        InvalidError: it holds more; the message says how many it may.
    """
    most = FIXED + len(body) // BYTES_EACH
    if (
        len(body) <= most or _marks(body) <= most
    ):  # marks within texts count too: what is still few is few
        return
    if _marks_outside_texts(body) > most:
        raise InvalidError(
            f"the body holds more than {most} values, which is the most for its {len(body)} "
            "bytes; send it in parts",
            http_status=413,
        )


def _marks(text: bytes) -> int:
    """Return how many commas, lists and objects there are: as many as values, or more."""
    return text.count(b",") + text.count(b"[") + text.count(b"{")


def _marks_outside_texts(body: bytes) -> int:
    total, is_inside, rest = 0, False, b""
    for start in range(0, len(body), _CHUNK):
        chunk = rest + body[start : start + _CHUNK]
        rest = chunk[-1:] if chunk.endswith(b"\\") and _is_odd(chunk) else b""
        chunk = chunk[: len(chunk) - len(rest)].replace(b"\\\\", b"").replace(b'\\"', b"")
        parts = chunk.split(b'"')
        total += _marks(b"".join(parts[is_inside::2]))
        is_inside ^= len(parts) % 2 == 0
    return total


def _is_odd(chunk: bytes) -> bool:
    """Whether the backslashes at the end are an odd number: the last one escapes what comes next."""
    return (len(chunk) - len(chunk.rstrip(b"\\"))) % 2 == 1
