"""Chunkers: slices of the text, complete, within their budget, and in linear time."""

import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspex.errors import DefinitionError
from dspex.execution.retrieval import CHUNKERS, Chunker, chunker_settings, parse_chunker
from dspex.execution.retrieval.chunkers import (
    CodeChunker,
    MarkdownChunker,
    RecursiveChunker,
    SentenceChunker,
)
from dspex.execution.retrieval.sentences import sentence_spans
from dspex.execution.retrieval.window import estimate_tokens

PIECES = st.sampled_from(
    [
        *("word", "ein längeres Wort", ". ", "! ", "\n", "\n\n", "# Head\n", "\n## Sub\n", "```\n"),
        *("def f():\n    return 1\n", "日本語。", "🙂", "\ud800", "x" * 50, "e.g. ", "A. ", "\t"),
        *("  ", "..."),
    ]
)
TEXTS = st.one_of(st.text(max_size=300), st.lists(PIECES, max_size=60).map("".join))


@st.composite
def chunkers(draw: st.DrawFn) -> Chunker:
    tokens = draw(st.integers(1, 40))
    overlap = draw(st.integers(0, tokens // 2))
    method = draw(st.sampled_from(sorted(CHUNKERS)))
    return parse_chunker({"method": method, "tokens": tokens, "overlap": overlap})


@settings(max_examples=300, deadline=None)
@given(text=TEXTS, chunker=chunkers())
def test_chunks_are_slices_that_cover_the_text_within_the_budget(
    text: str, chunker: Chunker
) -> None:
    chunks = chunker.divide(text)
    covered: set[int] = set()
    previous = (-1, -1)
    for chunk in chunks:
        assert chunk.text == text[chunk.start : chunk.end]
        assert chunk.text
        assert chunk.text == chunk.text.strip()
        assert estimate_tokens(chunk.text) <= chunker_settings(chunker)["tokens"]
        assert chunk.start > previous[0]
        assert chunk.end > previous[1]
        previous = (chunk.start, chunk.end)
        covered.update(range(chunk.start, chunk.end))
    assert all(index in covered for index, character in enumerate(text) if character.strip())
    assert chunker.divide(text) == chunks


@settings(deadline=None)
@given(text=TEXTS)
def test_sentences_are_in_order_and_cover_the_text(text: str) -> None:
    spans = list(sentence_spans(text))
    assert "".join("".join(text[start:end].split()) for start, end in spans) == "".join(
        text.split()
    )
    assert all(first[1] <= second[0] for first, second in pairwise(spans))


@pytest.mark.parametrize(
    "unit", [".", "\n", " ", "# ", "```\n", "\n \n", '."', "a", "A. ", "日", "\t\n", "! "]
)
@pytest.mark.parametrize("method", CHUNKERS)
def test_hostile_texts_take_linear_time(method: str, unit: str) -> None:
    chunker = parse_chunker(method)
    start = time.process_time()
    chunker.divide(unit * (400_000 // len(unit)))
    assert time.process_time() - start < 10  # quadratic time would be minutes


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("See e.g. Dr. Who, J. Smith. He left.", ["See e.g. Dr. Who, J. Smith.", "He left."]),
        ("Wait ... what? Yes", ["Wait ... what?", "Yes"]),
        ("Das gilt z.B. hier. Am 3. Mai", ["Das gilt z.B. hier.", "Am 3. Mai"]),
        ("これは文です。次の文。", ["これは文です。", "次の文。"]),
        ('He said "Go." Then left.', ['He said "Go."', "Then left."]),
        ("Title\n\nBody of it", ["Title", "Body of it"]),
        ("## Head\nOne. Two", ["## Head", "One.", "Two"]),
        ("Items\n- one\n2. two\nmore", ["Items", "- one", "2. two\nmore"]),
        ("Version 1.2.3 is out", ["Version 1.2.3 is out"]),
        ("  ", []),
    ],
)
def test_sentences_end_where_a_reader_ends_them(text: str, sentences: list[str]) -> None:
    assert [text[start:end] for start, end in sentence_spans(text)] == sentences


def test_prose_is_divided_at_the_strongest_boundary_within_reach() -> None:
    text = "First paragraph of text here.\n\nSecond one. It has two sentences that go on and on."
    chunks = RecursiveChunker(tokens=12, overlap=0).divide(text)
    assert [chunk.text for chunk in chunks] == [
        "First paragraph of text here.",
        "Second one. It has two sentences that go on and",
        "on.",
    ]


def test_an_overlap_repeats_whole_words() -> None:
    text = " ".join(f"word{number}" for number in range(40))
    chunks = RecursiveChunker(tokens=16, overlap=4).divide(text)
    for before, after in pairwise(chunks):
        assert after.start < before.end
        assert text[after.start - 1] == " "


def test_sentences_stay_whole() -> None:
    text = "Alpha is one. Beta is two. Gamma is three. Delta is four."
    chunks = SentenceChunker(tokens=8, overlap=4).divide(text)
    assert [chunk.text for chunk in chunks] == [
        "Alpha is one. Beta is two.",
        "Beta is two. Gamma is three.",
        "Gamma is three. Delta is four.",
    ]


def test_markdown_is_divided_at_headings_and_remembers_them() -> None:
    text = "Intro\n# Returns #\nAll.\n## Lamps\n30 days.\n```\n# a comment\n```\n# Contact\nMail."
    chunks = MarkdownChunker().divide(text)
    assert [(chunk.metadata.get("heading"), chunk.text.split("\n")[-1]) for chunk in chunks] == [
        (None, "Intro"),
        ("Returns", "All."),
        ("Returns > Lamps", "```"),
        ("Contact", "Mail."),
    ]


def test_code_is_divided_between_definitions() -> None:
    text = (
        "import os\n\n\ndef first():\n    a = 1\n\n    return a\n\n\ndef second():\n    return 2\n"
    )
    chunks = CodeChunker(tokens=16).divide(text)
    assert [chunk.text.split("\n")[0] for chunk in chunks] == ["import os", "def second():"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"method": "recursiv"}, "recursive"),
        ({"tokens": 0}, "from 1 to 100000"),
        ({"tokens": 10, "overlap": 6}, "half of its 10 tokens"),
        ({"tokens": True}, "whole number"),
        ({"size": 10}, "no setting 'size'"),
    ],
)
def test_a_wrong_setting_is_refused(value: dict[str, object], message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        parse_chunker(value)


def test_chunkers_are_settings_and_back() -> None:
    for method in CHUNKERS:
        chunker = parse_chunker({"method": method, "tokens": 50})
        assert parse_chunker(chunker_settings(chunker)) == chunker
        assert chunker.fingerprint != parse_chunker({"method": method, "tokens": 51}).fingerprint
    assert parse_chunker(None) == RecursiveChunker(tokens=200, overlap=20)
