"""WordPiece: the tokenizer of BERT, without case and accents."""

import unicodedata
from functools import lru_cache
from importlib.resources import files
from typing import Final

MAX_TOKENS: Final = 512  # positions of the model, including the two marks around a text
_START: Final = 101
_END: Final = 102
_UNKNOWN: Final = 100
_MAX_WORD: Final = 100  # characters; a longer word is unknown
_WORDS: Final = 50_000  # words in the cache
_IDEOGRAPHS: Final = (
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B81F),
    (0x2B920, 0x2CEAF),
    (0x2F800, 0x2FA1F),
)


class _Characters(dict[int, str]):
    """A table for `str.translate`, filled as characters occur."""

    def __missing__(self, code: int) -> str:
        text = self[code] = _replacement(chr(code))
        return text


def _replacement(character: str) -> str:
    category = unicodedata.category(character)
    if character in "\t\n\r" or category == "Zs":
        return " "
    if category[0] in "CZ" or category == "Mn" or character == "\ufffd":
        return " " if category in {"Zl", "Zp"} else ""
    code = ord(character)
    is_ascii_symbol = code < 128 and not character.isalnum()
    is_ideograph = any(first <= code <= last for first, last in _IDEOGRAPHS)
    if category[0] == "P" or is_ascii_symbol or is_ideograph:
        return f" {character} "
    return character.lower()


class WordPiece:
    """Divides texts into the numbers of their word pieces; safe to share between threads.

    Source: "Google's Neural Machine Translation System", Wu et al., 2016, and the code of BERT.
    Marks such as "[SEP]" in a text are ordinary text.
    """

    def __init__(self) -> None:
        """Read the vocabulary."""
        text = files("dspex.execution.clients.minilm").joinpath("vocabulary.txt").read_text("utf-8")
        self._numbers = {piece: number for number, piece in enumerate(text.splitlines())}
        self._characters = _Characters()
        self._pieces = lru_cache(maxsize=_WORDS)(self._divide)

    def encode(self, text: str) -> list[int]:
        """Return the numbers of the pieces, between the marks of start and end."""
        numbers = [_START]
        for word in unicodedata.normalize("NFD", text).translate(self._characters).split():
            numbers += self._pieces(word)
        numbers.append(_END)
        return numbers

    def _divide(self, word: str) -> tuple[int, ...]:
        """Return the longest pieces from the left, or one unknown piece."""
        if len(word) > _MAX_WORD:
            return (_UNKNOWN,)
        numbers: list[int] = []
        start, prefix = 0, ""
        while start < len(word):
            for end in range(len(word), start, -1):
                number = self._numbers.get(prefix + word[start:end])
                if number is not None:
                    break
            else:
                return (_UNKNOWN,)
            numbers.append(number)
            start, prefix = end, "##"
        return tuple(numbers)
