"""The chunkers and their registry. A new chunker is a class, and a line here.

Tokens are estimated by `window.estimate_tokens`.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Final

from dspex.arguments import checks_names
from dspex.error_text import shorten, suggest
from dspex.errors import DefinitionError
from dspex.execution.retrieval.chunker import Chunk, Chunker
from dspex.execution.retrieval.sentences import SENTENCE_END, sentence_spans
from dspex.execution.retrieval.window import estimate_tokens, windows

_EMPTY_LINE = re.compile(r"\n[ \t\r]*+\n")
_LINE = re.compile(r"\n")
_SPACE = re.compile(r"\s")
_PROSE: Final = (_EMPTY_LINE, _LINE, SENTENCE_END, _SPACE)
_CODE: Final = (
    re.compile(r"\n[ \t\r]*+\n(?=\S)"),  # a definition of the outermost level
    re.compile(r"\n(?=[^\s)\]}])"),
    _EMPTY_LINE,
    _LINE,
    _SPACE,
)
_HEADING = re.compile(r"^(#{1,6})[ \t]+(.*)$|^(`{3,}|~{3,})", re.MULTILINE)


@checks_names
@dataclass(frozen=True, slots=True, kw_only=True)
class RecursiveChunker:
    """Divides at empty lines, then lines, sentences and words; the default.

    Args:
        tokens: the maximum number of tokens in a chunk.
        overlap: the maximum number of tokens that a chunk repeats from the one before; at most half
            of `tokens`.
    """

    method: ClassVar[str] = "recursive"
    boundaries: ClassVar[Sequence[re.Pattern[str]]] = _PROSE
    tokens: int = 200
    overlap: int = 20

    def __post_init__(self) -> None:
        """Check the settings."""
        if type(self.tokens) is not int or not 1 <= self.tokens <= 100_000:
            raise DefinitionError(
                f"`tokens` of a chunker is a whole number from 1 to 100000, not {self.tokens!r}"
            )
        if type(self.overlap) is not int or not 0 <= self.overlap <= self.tokens // 2:
            raise DefinitionError(
                f"`overlap` of a chunker is a whole number from 0 to half of its {self.tokens} "
                f"tokens, not {self.overlap!r}"
            )

    @property
    def fingerprint(self) -> str:
        """Return the method, its version and settings."""
        return f"{self.method}/1 tokens={self.tokens} overlap={self.overlap}"

    def divide(self, text: str) -> Sequence[Chunk]:
        """Return the chunks of a text."""
        return [_chunk(text, start, end) for start, end in self._spans(text, 0, len(text))]

    def _spans(self, text: str, start: int, stop: int) -> Iterator[tuple[int, int]]:
        return windows(
            text,
            self.boundaries,
            tokens=self.tokens,
            overlap=self.overlap,
            start=start,
            stop=stop,
        )


@checks_names
@dataclass(frozen=True, slots=True, kw_only=True)
class CodeChunker(RecursiveChunker):
    """Divides source code of any language: between definitions, then at lines."""

    method: ClassVar[str] = "code"
    boundaries: ClassVar[Sequence[re.Pattern[str]]] = _CODE
    overlap: int = 0


@checks_names
@dataclass(frozen=True, slots=True, kw_only=True)
class SentenceChunker(RecursiveChunker):
    """Fills chunks with whole sentences, and repeats whole sentences as overlap.

    A sentence that is longer than a chunk is divided at words.
    """

    method: ClassVar[str] = "sentences"
    boundaries: ClassVar[Sequence[re.Pattern[str]]] = (_SPACE,)

    def divide(self, text: str) -> Sequence[Chunk]:
        """Return the chunks of a text."""
        spans = [
            part
            for start, end in sentence_spans(text)
            for part in windows(text, self.boundaries, tokens=self.tokens, start=start, stop=end)
        ]
        chunks: list[Chunk] = []
        first = 0
        for last, (_, end) in enumerate(spans):
            following = spans[last + 1 : last + 2]
            if following and self._fits(text, spans[first][0], following[0][1]):
                continue
            chunks.append(_chunk(text, spans[first][0], end))
            first = last + 1
            while following and self._repeats(text, spans[first - 1][0], spans[last : last + 2]):
                first -= 1
        return chunks

    def _fits(self, text: str, start: int, end: int) -> bool:
        return estimate_tokens(text[start:end]) <= self.tokens

    def _repeats(self, text: str, start: int, spans: Sequence[tuple[int, int]]) -> bool:
        """Return whether the chunk after these two sentences may begin at `start`."""
        (_, end), (_, following) = spans
        overlap = estimate_tokens(text[start:end])
        return overlap <= self.overlap and self._fits(text, start, following)


@checks_names
@dataclass(frozen=True, slots=True, kw_only=True)
class MarkdownChunker(RecursiveChunker):
    """Divides at headings; the metadata has those above a chunk: `{"heading": "Returns > Lamps"}`.

    Long sections are divided like prose. Headings inside code fences are ignored.
    """

    method: ClassVar[str] = "markdown"

    def divide(self, text: str) -> Sequence[Chunk]:
        """Return the chunks of a text."""
        return [
            Chunk(text=text[start:end], start=start, end=end, metadata=metadata)
            for metadata, first, stop in _sections(text)
            for start, end in self._spans(text, first, stop)
        ]


CHUNKERS: Mapping[str, type[RecursiveChunker]] = {
    chunker.method: chunker
    for chunker in (RecursiveChunker, SentenceChunker, MarkdownChunker, CodeChunker)
}


def parse_chunker(settings: "Chunker | Mapping[str, Any] | str | None") -> Chunker:
    """Return a chunker from its method or settings: `{"method": "recursive", "tokens": 200}`.

    Raises:
        DefinitionError: the method or a setting is unknown or invalid.
    """
    if settings is None or isinstance(settings, str):
        settings = {"method": settings or RecursiveChunker.method}
    if not isinstance(settings, Mapping):
        return settings
    values = dict(settings)
    method = values.pop("method", RecursiveChunker.method)
    chunker: Callable[..., Chunker] | None = CHUNKERS.get(method)
    if chunker is None:
        hint = suggest(str(method), list(CHUNKERS))
        raise DefinitionError(
            f"unknown method of chunking {shorten(method)}; methods are: {', '.join(CHUNKERS)}"
            f"{hint and f'.{hint}'}"
        )
    if unknown := values.keys() - {"tokens", "overlap"}:
        raise DefinitionError(
            f"a chunker has no setting {min(unknown)!r}; its settings are method, tokens, overlap"
        )
    if "tokens" in values and "overlap" not in values and isinstance(values["tokens"], int):
        values["overlap"] = min(CHUNKERS[method]().overlap, values["tokens"] // 10)
    return chunker(**values)


def chunker_settings(chunker: Chunker) -> dict[str, Any]:
    """Return the settings from which `parse_chunker` makes an equal chunker.

    Raises:
        DefinitionError: it is not one of the registry.
    """
    if not isinstance(chunker, RecursiveChunker):
        raise DefinitionError(
            f"the chunker {shorten(chunker)} has no form as data; methods are: "
            f"{', '.join(CHUNKERS)}"
        )
    return {"method": chunker.method, **asdict(chunker)}


def _chunk(text: str, start: int, end: int) -> Chunk:
    return Chunk(text=text[start:end], start=start, end=end)


def _sections(text: str) -> Iterator[tuple[dict[str, Any], int, int]]:
    """Yield the metadata, start and end of each section."""
    headings: list[tuple[int, str]] = []
    fence = ""
    start = 0
    for match in _HEADING.finditer(text):
        marks, title, mark = match.groups()
        if mark:
            if not fence:
                fence = mark
            elif mark.startswith(fence):
                fence = ""
        elif not fence:
            yield _metadata(headings), start, match.start()
            headings = [item for item in headings if item[0] < len(marks)]
            headings.append((len(marks), title.rstrip("# \t\r")))
            start = match.start()
    yield _metadata(headings), start, len(text)


def _metadata(headings: Sequence[tuple[int, str]]) -> dict[str, Any]:
    return {"heading": " > ".join(title for _, title in headings)} if headings else {}
