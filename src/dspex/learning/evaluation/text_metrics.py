"""Metrics for text that need not match exactly."""

import re
from collections import Counter

from dspex.errors import DefinitionError
from dspex.language.records import Example, Prediction

_WORD = re.compile(r"\w+")


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
    return str(value).strip().lower()
