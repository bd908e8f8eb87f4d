"""The size of a picture in pixels, read from its first bytes (PNG, JPEG, GIF, WebP)."""

from collections.abc import Iterator


def picture_size(data: bytes) -> tuple[int, int] | None:
    """Return width and height; None if the format is another one, or the header is damaged."""
    size: tuple[int, int] | None = None
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        size = _big(data[16:20]), _big(data[20:24])
    elif data.startswith((b"GIF87a", b"GIF89a")):
        size = _little(data[6:8]), _little(data[8:10])
    elif data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        size = _webp_size(data)
    elif data.startswith(b"\xff\xd8"):
        size = next(_jpeg_frames(data), None)
    return size if size is not None and min(size) > 0 else None


def _big(data: bytes) -> int:
    return int.from_bytes(data, "big")


def _little(data: bytes) -> int:
    return int.from_bytes(data, "little")


def _webp_size(data: bytes) -> tuple[int, int] | None:
    """Return the size by the kind of the first chunk: extended, lossless or lossy."""
    kind = data[12:16]
    if kind == b"VP8X":
        return _little(data[24:27]) + 1, _little(data[27:30]) + 1
    if kind == b"VP8L":
        bits = _little(data[21:25])
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        return _little(data[26:28]) & 0x3FFF, _little(data[28:30]) & 0x3FFF
    return None


def _jpeg_frames(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield the size in each start of a frame (ITU-T T.81, B.2.2)."""
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker in {0x01, 0xFF, *range(0xD0, 0xD8)}:  # fill bytes, and markers without a length
            at += 1 if marker == 0xFF else 2
            continue
        if 0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC}:
            yield _big(data[at + 7 : at + 9]), _big(data[at + 5 : at + 7])
        at += 2 + max(2, _big(data[at + 2 : at + 4]))
