"""Metrics of retrieval: how well `passages` of a prediction rank what is relevant.

An example says what is relevant in `relevant`: the key of a document or the id of a passage, a list
of them, or grades by key (`{"lamps.md": 2, "sofas.md": 1}`). A document counts once, at its first
passage. `pytrec_eval` gives the same figures.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Final

import msgspec

from dspex.error_text import shorten
from dspex.errors import DefinitionError
from dspex.execution.retrieval.sentences import sentence_spans
from dspex.language.records import Example, Prediction
from dspex.language.signatures.content import Cited
from dspex.learning.evaluation.metric import Metric, metric_name

__all__ = [
    "average_precision",
    "hit_at",
    "ndcg_at",
    "recall_at",
    "reciprocal_rank",
    "supported",
]


class MetricRegistry(Mapping[str, Metric]):
    """Metrics by name; those of the first `k` results have one for every `k`, such as recall@4."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        """Take the metrics that are listed."""
        self._metrics = {metric_name(metric): metric for metric in metrics}

    def __getitem__(self, name: str) -> Metric:
        """Return the metric of a name."""
        match = _NAME.fullmatch(name)
        return self._metrics[name] if match is None else _at(match[1], int(match[2]))

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names that are listed."""
        return iter(self._metrics)

    def __len__(self) -> int:
        """Return the number of listed metrics."""
        return len(self._metrics)


def _recall(gains: Sequence[float], ideal: Sequence[float], k: int) -> float:
    return sum(gain > 0 for gain in gains[:k]) / len(ideal)


def _hit(gains: Sequence[float], _ideal: Sequence[float], k: int) -> float:
    return float(any(gain > 0 for gain in gains[:k]))


def _ndcg(gains: Sequence[float], ideal: Sequence[float], k: int) -> float:
    return _dcg(gains[:k]) / _dcg(ideal[:k])


_CUTOFFS: Final = {"recall": _recall, "hit": _hit, "ndcg": _ndcg}
_NAME: Final = re.compile(rf"({'|'.join(_CUTOFFS)})@([1-9]\d{{0,5}})")


@cache
def _at(kind: str, k: int) -> Metric:
    def score(example: Example, prediction: Prediction) -> float:
        return _CUTOFFS[kind](*_judged(example, prediction), k)

    score.__name__ = score.__qualname__ = f"{kind}@{k}"
    return score


def _checked(kind: str, k: int) -> Metric:
    if not isinstance(k, int) or k < 1:
        raise DefinitionError(f"the number of passages to look at is at least 1, not {k!r}")
    return _at(kind, k)


def recall_at(k: int) -> Metric:
    """Return the metric: the share of what is relevant among the first `k`."""
    return _checked("recall", k)


def hit_at(k: int) -> Metric:
    """Return the metric: 1 if anything relevant is among the first `k`, else 0."""
    return _checked("hit", k)


def ndcg_at(k: int) -> Metric:
    """Return the metric: normalized discounted cumulative gain (Järvelin and Kekäläinen, 2002)."""
    return _checked("ndcg", k)


def reciprocal_rank(example: Example, prediction: Prediction) -> float:
    """Return 1 divided by the rank of the first relevant result, 0 without one."""
    gains, _ = _judged(example, prediction)
    return next((1 / rank for rank, gain in enumerate(gains, 1) if gain > 0), 0.0)


def average_precision(example: Example, prediction: Prediction) -> float:
    """Return the mean of the precisions at the ranks of what is relevant; their mean is MAP."""
    gains, ideal = _judged(example, prediction)
    ranks = [rank for rank, gain in enumerate(gains, 1) if gain > 0]
    return sum(count / rank for count, rank in enumerate(ranks, 1)) / len(ideal)


def supported(example: Example, prediction: Prediction) -> float:
    """Return the share of sentences, in outputs of type `Cited`, that have a source.

    Each source occurs word for word in the passages, so that no judge is needed; whether it implies
    the sentence is not checked. An empty answer counts as 1.

    Raises:
        DefinitionError: no output is of type `Cited`.
    """
    del example
    answers = [value for value in prediction.values() if isinstance(value, Cited)]
    if not answers:
        raise DefinitionError("the metric 'supported' needs an output of type Cited")
    statements = [statement for answer in answers for statement in answer.statements]
    counts = [(len(list(sentence_spans(item.text))), bool(item.sources)) for item in statements]
    total = sum(count for count, _ in counts)
    return sum(count for count, has_source in counts if has_source) / total if total else 1.0


def _judged(example: Example, prediction: Prediction) -> tuple[list[float], list[float]]:
    """Return the gains of the results in order, and those of a perfect ranking."""
    grades = _grades(example)
    results: dict[str, float] = {}
    for passage in _passages(prediction):
        keys = [key for key in (passage.get("document"), passage.get("id")) if key]
        key = next((key for key in keys if key in grades), keys[0] if keys else passage["text"])
        results.setdefault(key, grades.get(key, 0.0))
    return list(results.values()), sorted(grades.values(), reverse=True)


def _grades(example: Example) -> dict[str, float]:
    relevant: Any = example.get("relevant")
    if isinstance(relevant, str) and relevant.lstrip()[:1] in {"[", "{"}:  # in a csv
        try:
            relevant = msgspec.json.decode(relevant)
        except msgspec.DecodeError as error:
            raise DefinitionError(f"`relevant` is not JSON: {shorten(relevant)}") from error
    if isinstance(relevant, str):
        relevant = [relevant]
    if isinstance(relevant, list | tuple | set):
        relevant = dict.fromkeys(map(str, relevant), 1.0)
    if not isinstance(relevant, Mapping) or not any(grade > 0 for grade in relevant.values()):
        raise DefinitionError(
            "metrics of retrieval need the field `relevant` in each example: the key of a document "
            f"or passage, a list of them, or grades by key, not {shorten(relevant)}"
        )
    return {str(key): float(grade) for key, grade in relevant.items() if grade > 0}


def _passages(prediction: Prediction) -> list[Mapping[str, Any]]:
    passages = prediction.get("passages")
    if not isinstance(passages, list):
        raise DefinitionError(
            "metrics of retrieval need the output `passages`, as Retrieve and RAG have it; the "
            f"prediction has {', '.join(prediction) or 'no outputs'}"
        )
    return [
        passage
        if isinstance(passage, Mapping)
        else {name: getattr(passage, name) for name in ("document", "id", "text")}
        for passage in passages
    ]


def _dcg(gains: Sequence[float]) -> float:
    return sum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains, 1))
