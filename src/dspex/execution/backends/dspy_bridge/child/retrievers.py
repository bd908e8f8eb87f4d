"""Retrievers of dspy as programs: from a query and k to passages."""

import inspect
from typing import Any

import dspy

_SCORES = ("score", "prob")
_TEXTS = ("long_text", "text", "passage", "content")


class RetrieverProgram(dspy.Module):
    """Calls any retriever of dspy: an RM, `Embeddings`, `ColBERTv2`, a module or a function."""

    def __init__(self, retriever: Any) -> None:
        super().__init__()
        self.search = [retriever]  # in a list, so that dspy does not take it for a part

    def deepcopy(self) -> "RetrieverProgram":
        """Return this module: retrievers hold connections and indexes."""
        return self

    def forward(self, query: str, k: int) -> Any:
        """Search once."""
        (retriever,) = self.search
        result = retriever(query, **({"k": k} if _takes_k(retriever) else {}))
        passages = getattr(result, "passages", result)
        scores = getattr(result, "scores", None)
        indices = getattr(result, "indices", None)
        rows = [
            _row(passage, _at(scores, rank), _at(indices, rank))
            for rank, passage in enumerate(list(passages)[:k])
        ]
        return dspy.Prediction(passages=rows)


def _takes_k(retriever: Any) -> bool:
    function = getattr(retriever, "forward", retriever)
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False
    kinds = [parameter.kind for parameter in parameters.values()]
    return "k" in parameters or inspect.Parameter.VAR_KEYWORD in kinds


def _at(values: Any, rank: int) -> Any:
    return values[rank] if values is not None and rank < len(values) else None


def _row(passage: Any, score: Any, index: Any) -> "dict[str, Any]":
    """Return a passage as data: dspy has texts, and objects and dicts with texts."""
    values = dict(passage) if hasattr(passage, "keys") else {}
    text = next((str(values[name]) for name in _TEXTS if name in values), None)
    if score is None:
        score = next((values[name] for name in _SCORES if name in values), None)
    if index is None:
        index = values.get("pid", values.get("id"))
    return {
        "text": str(passage) if text is None else text,
        "id": "" if index is None else str(index),
        "score": None if score is None else float(score),
    }
