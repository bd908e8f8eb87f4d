"""Estimates of the tokens that pictures, recordings and files take, by the rules of providers.

The rules are those of the public documentation of OpenAI ("Images and vision"), Anthropic
("Vision", "PDF support") and Google ("Understand and count tokens"). A provider that asks for
several pictures of one page, or a model that is newer than these rules, may count more.
"""

import math
import re
from collections.abc import Callable
from typing import Final

from dspex.execution.clients.picture_size import picture_size
from dspex.language.records.message import AudioPart, ImagePart, MediaPart, Message, TextPart

_UNKNOWN: Final = (8000, 3000)  # the size of a picture at a URL: large by every rule
_UNKNOWN_BYTES: Final = 1_000_000  # of a recording or file at a URL
_AUDIO_RATE: Final = 32  # tokens a second (Google; others count less)
_AUDIO_BYTES: Final = 4000  # the fewest bytes a second of a compressed recording (32 kbit/s)
_PAGE: Final = 4600  # tokens of a PDF's page: its text (3,000) and its picture (1,600)
_GEMINI_PAGE: Final = 1120
_PDF_PAGE: Final = re.compile(rb"/Type\s*/Page\b")
_PDF_PAGE_BYTES: Final = 2000  # the fewest bytes of a page, if the pages are compressed


def media_tokens(model: str, part: MediaPart) -> int:
    """Return about how many tokens a part takes for the model with this label."""
    if isinstance(part, ImagePart):
        width, height = picture_size(part.data) or _UNKNOWN
        return _picture_rule(model)(width, height, part.detail)
    size = len(part.data) or _UNKNOWN_BYTES
    if isinstance(part, AudioPart):
        rate = int.from_bytes(part.data[28:32], "little") if part.data[:4] == b"RIFF" else 0
        return math.ceil(size / (rate or _AUDIO_BYTES)) * _AUDIO_RATE
    if part.media_type != "application/pdf" and not part.url:
        return size  # a tokenizer makes at most one token of a byte
    pages = len(_PDF_PAGE.findall(part.data)) or math.ceil(size / _PDF_PAGE_BYTES)
    return pages * (_GEMINI_PAGE if "gemini" in model else _PAGE)


def content_tokens(model: str, message: Message) -> int:
    """Return about how many tokens the media in a message take; 0 for text."""
    if isinstance(message.content, str):
        return 0
    parts = (part for part in message.content if not isinstance(part, TextPart))
    return sum(media_tokens(model, part) for part in parts)


_Rule = Callable[[int, int, str | None], int]


def _tiles(base: int, tile: int) -> _Rule:
    """Return the rule of OpenAI's tiles: fit into 2048 pixels, the short side into 768."""

    def count(width: int, height: int, detail: str | None) -> int:
        if detail == "low":
            return base
        scale = min(1.0, 2048 / max(width, height))
        scale *= min(1.0, 768 / (min(width, height) * scale))
        tiles = math.ceil(width * scale / 512) * math.ceil(height * scale / 512)
        return base + tile * tiles

    return count


def _patches(side: int, most: int, factor: float = 1.0) -> _Rule:
    """Return the rule of square patches with `side` pixels, at most `most` of them."""

    def count(width: int, height: int, _detail: str | None) -> int:
        patches = math.ceil(width / side) * math.ceil(height / side)
        return math.ceil(min(patches, most) * factor)

    return count


def _claude(most: int) -> _Rule:
    return lambda width, height, _detail: min(math.ceil(width * height / 750), most)


def _gemini(width: int, height: int, _detail: str | None) -> int:
    """Return 258 for a small picture, else for each tile of two thirds of its short side."""
    if max(width, height) <= 384:
        return 258
    tiles = 2 * math.ceil(1.5 * max(width, height) / min(width, height))
    return max(1120, 258 * tiles)


_RULES: Final[tuple[tuple[str, _Rule], ...]] = (
    (r"gpt-4o-mini", _tiles(2833, 5667)),
    (r"gpt-4\.1-nano|gpt-5-nano", _patches(32, 1536, 2.46)),
    (r"o4-mini", _patches(32, 1536, 1.72)),
    (r"gpt-4\.1-mini|gpt-5-mini", _patches(32, 1536, 1.62)),
    (r"gpt-4o|gpt-4\.[15]|gpt-4-", _tiles(85, 170)),
    (r"gpt-5(\.[0-3])?(-|$|@)", _tiles(70, 140)),
    (r"\bo[13]\b", _tiles(75, 150)),
    (r"gpt-", _patches(32, 10_000)),
    (r"claude-(3|\w+-4-[0-6]\b|\w+-4-2025)", _claude(1600)),
    (r"claude", _claude(4784)),
    (r"gemini", _gemini),
    ("", _patches(28, 16_384)),
)
"""By pattern of the label; the first that matches counts."""


def _picture_rule(model: str) -> _Rule:
    return next(rule for pattern, rule in _RULES if re.search(pattern, model.lower()))
