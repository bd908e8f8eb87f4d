"""The words of a query, as full-text search takes them."""

import re
from typing import Final

MAX_WORDS: Final = 200
_WORD = re.compile(r"[^\W_]+")  # full-text search divides words at an underscore, too


def words_of(text: str) -> list[str]:
    """Return the different words of a query, in lower case and in order; at most `MAX_WORDS`."""
    return list(dict.fromkeys(_WORD.findall(text.lower())))[:MAX_WORDS]
