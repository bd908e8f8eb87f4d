"""The built-in metrics, and their registry: the command line, the API and jobs read it.

A new metric is a function here, its name in `__all__`, and its line in the registry.
"""

import re
from collections import Counter
from collections.abc import Mapping

import msgspec

from dspex.errors import DefinitionError
from dspex.language.records import Example, Prediction
from dspex.language.signatures.content import Cited
from dspex.learning.evaluation.answer_metrics import answer_match, passage_match
from dspex.learning.evaluation.metric import Metric
from dspex.learning.evaluation.plain import plain
from dspex.learning.evaluation.retrieval_metrics import (
    MetricRegistry,
    average_precision,
    hit_at,
    ndcg_at,
    recall_at,
    reciprocal_rank,
    supported,
)

__all__ = [
    "answer_match",
    "average_precision",
    "contains",
    "exact_match",
    "f1",
    "hit_at",
    "ndcg_at",
    "passage_match",
    "recall_at",
    "reciprocal_rank",
    "supported",
]

_WORD = re.compile(r"\w+")


def exact_match(example: Example, prediction: Prediction) -> float:
    """Return 1 if all common fields are equal, else 0.

    Surrounding white space is ignored. Numbers and booleans may be text on either side, as in a
    csv; models, enum members and other typed values are compared as JSON.

    Raises:
        DefinitionError: example and prediction have no common field.
    """
    common = _common(example, prediction)
    return float(all(_same(example[name], prediction[name]) for name in common))


def contains(example: Example, prediction: Prediction) -> float:
    """Return 1 if every common field contains the expected text, ignoring case; else 0.

    Raises:
        DefinitionError: example and prediction have no common field.
    """
    return float(
        all(
            _text(example[name]) in _text(prediction[name]) for name in _common(example, prediction)
        )
    )


def f1(example: Example, prediction: Prediction) -> float:
    """Return the mean word F1 of the common fields, ignoring order, case and punctuation.

    After Rajpurkar et al., "SQuAD: 100,000+ Questions for Machine Comprehension of Text" (2016),
    but articles count.

    Raises:
        DefinitionError: example and prediction have no common field.
    """
    common = _common(example, prediction)
    return sum(_f1(_text(example[name]), _text(prediction[name])) for name in common) / len(common)


METRICS: Mapping[str, Metric] = MetricRegistry(
    (
        exact_match,
        contains,
        f1,
        answer_match,
        passage_match,
        supported,
        *(recall_at(k) for k in (1, 5, 10)),
        *(hit_at(k) for k in (1, 5, 10)),
        reciprocal_rank,
        average_precision,
        ndcg_at(10),
    )
)


def _same(expected: object, actual: object) -> bool:
    if type(expected) is str and type(actual) is str:
        return expected.strip() == actual.strip()
    try:
        expected_value, actual_value = plain(_answer(expected)), plain(_answer(actual))
    except ValueError:  # the class has no JSON form
        return bool(expected == actual)
    if isinstance(expected_value, str) and isinstance(actual_value, str):
        return expected_value.strip() == actual_value.strip()
    if isinstance(expected_value, str):
        return bool(_parse(expected_value) == actual_value)
    if isinstance(actual_value, str) and isinstance(expected_value, bool | int | float):
        return bool(_parse(actual_value) == expected_value)
    return bool(expected_value == actual_value)


def _parse(text: str) -> object:
    try:
        return msgspec.json.decode(
            text.strip().lower() if text.strip().lower() in {"true", "false"} else text
        )
    except msgspec.DecodeError:
        return text.strip() or None


def _f1(expected: str, actual: str) -> float:
    expected_words, actual_words = _WORD.findall(expected), _WORD.findall(actual)
    if not expected_words or not actual_words:
        return float(expected_words == actual_words)
    shared = sum((Counter(expected_words) & Counter(actual_words)).values())
    return 2 * shared / (len(expected_words) + len(actual_words))


def _common(example: Example, prediction: Prediction) -> list[str]:
    common = [name for name in prediction if name in example]
    if not common:
        raise DefinitionError(
            f"nothing to compare: the prediction has {', '.join(prediction) or 'no fields'}, and "
            f"the example has {', '.join(example) or 'no fields'}"
        )
    return common


def _text(value: object) -> str:
    return str(_answer(value)).strip().lower()


def _answer(value: object) -> object:
    """Return the text of an answer with citations, other values unchanged."""
    return value.text if isinstance(value, Cited) else value
