"""Media types: recognized by the first bytes of the data, else guessed from a file's name."""

import base64
import hashlib
import mimetypes
import re

MAX_MEDIA_BYTES = 20 * 1024 * 1024
_PREVIEW = 64  # characters of base64
_DATA_URI = re.compile(r'(data:[^,;"\s]*(?:;[^,"\s]*?)?;base64,)([A-Za-z0-9+/]{200,})={0,2}')
_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (rb"\x89PNG\r\n\x1a\n", "image/png"),
    (rb"\xff\xd8\xff", "image/jpeg"),
    (rb"GIF8[79]a", "image/gif"),
    (rb"RIFF....WEBP", "image/webp"),
    (rb"BM.{12}[\x0c\x28\x6c\x7c]\0\0\0", "image/bmp"),
    (rb"II\*\0|MM\0\*", "image/tiff"),
    (rb"....ftyp(?:heic|heix|mif1)", "image/heic"),
    (rb"....ftypavif", "image/avif"),
    (rb"RIFF....WAVE", "audio/wav"),
    (rb"ID3|\xff[\xfb\xf3\xf2]", "audio/mpeg"),
    (rb"\xff[\xf1\xf9]", "audio/aac"),
    (rb"fLaC", "audio/flac"),
    (rb"OggS", "audio/ogg"),
    (rb"....ftypM4A", "audio/mp4"),
    (rb"%PDF-", "application/pdf"),
)
_PATTERN = re.compile(b"|".join(b"(%b)" % pattern for pattern, _ in _SIGNATURES), re.DOTALL)


def media_type_of(data: bytes, name: str = "") -> str | None:
    """Return the media type of a file's bytes; a name decides only if the bytes do not."""
    match = _PATTERN.match(data[:64])
    if match is not None and match.lastindex is not None:
        return _SIGNATURES[match.lastindex - 1][1]
    return mimetypes.guess_type(name)[0]


def shorten_data_uris(text: str) -> str:
    """Return a text whose data URIs have a preview, the size and the SHA-256 for their bytes."""
    return text if ";base64," not in text else _DATA_URI.sub(_shorten, text)


def _shorten(match: re.Match[str]) -> str:
    text = match[2][: len(match[2]) - (len(match[2]) % 4 == 1)]  # no base64 has one such character
    data = base64.b64decode(text + "==")  # more padding than needed is ignored
    digest = hashlib.sha256(data).hexdigest()
    return f"{match[1]}{text[:_PREVIEW]}... ({len(data)} bytes, sha256 {digest})"
