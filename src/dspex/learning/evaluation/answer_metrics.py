"""Metrics of short answers: the normalized text, one of several right answers, or in a passage."""

import re
import string
import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import msgspec

from dspex.errors import DefinitionError
from dspex.language.records import Example, Prediction
from dspex.language.signatures.content import Cited

__all__ = ["answer_match", "passage_match"]

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = frozenset(string.punctuation)


def answer_match(example: Example, prediction: Prediction) -> float:
    """Return 1 if every common field is one of the right answers, normalized; else 0.

    An expected value is one right answer or a list of them (in a csv, a JSON list). Case,
    punctuation, articles and white space do not count, after Rajpurkar et al., "SQuAD: 100,000+
    Questions for Machine Comprehension of Text" (2016).

    Raises:
        DefinitionError: example and prediction have no common field.
    """
    common = _common(example, prediction)
    return float(
        all(
            _normalized(prediction[name]) in set(map(_normalized, _answers(example[name])))
            for name in common
        )
    )


def passage_match(example: Example, prediction: Prediction) -> float:
    """Return 1 if a right answer of every common field is in a passage, word for word; else 0.

    Texts are normalized as in `answer_match`.

    Raises:
        DefinitionError: there is no common field, or no output `passages`.
    """
    passages: Any = prediction.get("passages")
    if not isinstance(passages, list):
        raise DefinitionError(
            "the metric 'passage_match' needs the output `passages`, as Retrieve and RAG have it"
        )
    texts = [f" {_normalized(text)} " for text in map(_passage_text, passages)]
    return float(
        all(
            any(
                f" {_normalized(answer)} " in text
                for answer in _answers(example[name])
                for text in texts
            )
            for name in _common(example, prediction)
        )
    )


def _common(example: Example, prediction: Prediction) -> list[str]:
    common = [name for name in prediction if name in example and name != "passages"]
    if not common:
        raise DefinitionError(
            f"nothing to compare: the prediction has {', '.join(prediction) or 'no fields'}, and "
            f"the example has {', '.join(example) or 'no fields'}"
        )
    return common


def _passage_text(passage: Any) -> str:
    return str(passage["text"] if isinstance(passage, dict) else passage)


def _answers(expected: Any) -> Iterator[object]:
    if isinstance(expected, str) and expected.lstrip().startswith("["):
        with suppress(msgspec.DecodeError):  # a text may happen to begin so
            expected = msgspec.json.decode(expected)
    yield from expected if isinstance(expected, list | tuple | set | frozenset) else [expected]


def _normalized(value: object) -> str:
    text = value.text if isinstance(value, Cited) else str(value)
    text = unicodedata.normalize("NFD", text).lower()
    text = "".join(character for character in text if character not in _PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", text).split())
