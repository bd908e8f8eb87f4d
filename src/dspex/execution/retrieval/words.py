"""The words of texts and queries, as full-text search takes them."""

import re
import unicodedata
from typing import Final

MAX_WORDS: Final = 200
# full-text search divides words at an underscore, too, but not at an accent
_WORD = re.compile(r"[^\W_](?:[^\W_]|[\u0300-\u036f])*")
_ACCENTS = re.compile(r"(?<=[a-z])[\u0300-\u036f]+")


def words_of(text: str) -> list[str]:
    """Return the different words of a query, in lower case and in order; at most `MAX_WORDS`."""
    return list(dict.fromkeys(split_words(text)))[:MAX_WORDS]


def split_words(text: str) -> list[str]:
    """Return all words of a text, in lower case and in order."""
    return _WORD.findall(text.lower())


def remove_accents(text: str) -> str:
    """Return a text in lower case whose Latin letters have no accents, as FTS5 reads it."""
    if text.isascii():
        return text.lower()
    letters = unicodedata.normalize("NFD", text.lower())
    return unicodedata.normalize("NFC", _ACCENTS.sub("", letters))
