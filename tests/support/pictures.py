"""Small files of media in their real formats."""

import io
import struct
import wave
import zlib


def png(width: int = 2, height: int = 2, *, shade: int = 0) -> bytes:
    """Return a grey PNG."""
    rows = b"".join(b"\0" + bytes([shade]) * width for _ in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def jpeg(width: int, height: int) -> bytes:
    """Return the headers of a JPEG: a comment, then the start of a frame."""
    comment = b"\xff\xfe" + struct.pack(">H", 2 + 300) + b"c" * 300
    frame = b"\xff\xc2" + struct.pack(">HBHH", 11, 8, height, width) + b"\x01\x01\x11\x00"
    return b"\xff\xd8" + comment + b"\xff" + frame


def gif(width: int, height: int) -> bytes:
    """Return the header of a GIF."""
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\0\0\0"


def webp(width: int, height: int, *, kind: str = "VP8X") -> bytes:
    """Return the header of a WebP: "VP8X" (extended), "VP8L" (lossless) or "VP8 " (lossy)."""
    body = {
        "VP8X": b"\0" * 4 + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little"),
        "VP8L": b"\x2f" + ((width - 1) | (height - 1) << 14).to_bytes(4, "little"),
        "VP8 ": b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", width, height),
    }[kind]
    chunk = kind.encode() + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


def wav(seconds: float = 0.1, *, rate: int = 8000) -> bytes:
    """Return a silent WAV of 8 bits."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(1)
        writer.setframerate(rate)
        writer.writeframes(b"\x80" * int(seconds * rate))
    return file.getvalue()


def pdf(pages: int = 1) -> bytes:
    """Return a PDF with empty pages."""
    kids = b"".join(b"%d 0 obj<</Type/Page/Parent 1 0 R>>endobj\n" % (n + 2) for n in range(pages))
    return b"%PDF-1.4\n1 0 obj<</Type/Pages/Count " + b"%d" % pages + b">>endobj\n" + kids
