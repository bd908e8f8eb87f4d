"""The tokens of the string form, and errors that point at one of them."""

import re
from dataclasses import dataclass
from typing import NoReturn

from dspex.error_text import shorten
from dspex.errors import SignatureError
from dspex.language.signatures.limits import check_limit

_TOKEN = re.compile(
    r"""(?:(?P<arrow>->)|(?P<name>[^\W\d]\w*)|(?P<number>[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)"""
    r"""|(?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|(?P<mark>[][(){}:,=|?]))""",
    re.DOTALL,
)
_SPACE = re.compile(r"\s*")
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}
_CONTEXT = 60


@dataclass(frozen=True, slots=True)
class Token:
    """One token: its kind, text and column."""

    kind: str
    text: str
    column: int

    @property
    def quoted(self) -> str:
        """The token as errors quote it."""
        return "the end" if self.kind == "end" else shorten(self.text)


def tokenize(text: str) -> list[Token]:
    """Return the tokens of `text`, followed by one of kind "end", in linear time.

    Raises:
        SignatureError: a part of `text` is not a token.
    """
    check_limit("text", len(text), "a declaration")
    tokens: list[Token] = []
    position = _SPACE.match(text, 0).end()  # type: ignore[union-attr]  # matches anything
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None or match.lastgroup is None:
            char = text[position]
            if char in "\"'":
                fail(text, position, f"the string is not closed; close it with {char}")
            fail(
                text,
                position,
                "expected a field name, a type or one of -> : , = | ? [ ] ( ) { }, but read "
                f"{char!r}",
            )
        tokens.append(Token(match.lastgroup, match[0], position))
        position = _SPACE.match(text, match.end()).end()  # type: ignore[union-attr]
    return [*tokens, Token("end", "", len(text))]


def fail(text: str, column: int, problem: str | SignatureError) -> NoReturn:
    """Raise a `SignatureError` that states `problem` and marks `column` (from 0) of `text`."""
    error = SignatureError(problem) if isinstance(problem, str) else problem
    start, end = max(0, column - _CONTEXT), column + _CONTEXT
    before, after = "..." if start else "", "..." if end < len(text) else ""
    excerpt = "".join(char if char.isprintable() else " " for char in text[start:end])
    raise error.with_message(
        f"at column {column + 1}: {error.message}\n  {before}{excerpt}{after}\n  "
        f"{' ' * (len(before) + column - start)}^",
        column=column + 1,
    )


def unquote(text: str) -> str:
    """Return the content of a quoted text. As in Python, unknown escapes keep their backslash."""
    return _ESCAPE.sub(_unescape, text[1:-1])


def _unescape(match: re.Match[str]) -> str:
    code = match[1]
    if len(code) > 1:
        return chr(int(code[1:], 16))
    if code in _ESCAPES:
        return _ESCAPES[code]
    return code if code in "\\\"'/" else match[0]
