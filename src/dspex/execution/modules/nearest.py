"""Choose demonstrations at run time: those whose inputs are nearest to the inputs of a call."""

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Final

from dspex.error_text import shorten
from dspex.execution.adapters.turns import text_of
from dspex.execution.clients.embedder import Embedder
from dspex.execution.frame import OpenSpan
from dspex.execution.retrieval.chunker import Chunk
from dspex.execution.retrieval.index_cache import DocumentVersion, IndexCache
from dspex.execution.retrieval.readers import SourceDocument
from dspex.language.signatures import Signature

MAX_NEAREST: Final = 1000
_MAX_POOLS: Final = 16
Demo = Mapping[str, Any]


class NearestDemos:
    """Ranks the demonstrations of a predictor; safe to share between tasks, loops and threads.

    The vectors of demonstrations are made once for each embedder. A demonstration without inputs is
    never chosen. Source: Liu et al., "What Makes Good In-Context Examples for GPT-3?", 2022.
    """

    def __init__(self) -> None:
        self._pools: OrderedDict[tuple[str, ...], _Pool] = OrderedDict()
        self._lock = threading.Lock()

    async def choose(
        self,
        demos: Sequence[Demo],
        inputs: Mapping[str, Any],
        *,
        signature: Signature,
        embedder: Embedder,
        count: int,
        parent: OpenSpan,
    ) -> list[Demo]:
        """Return the `count` nearest demonstrations, the nearest one first.

        The numbers of the demonstrations and their scores are in a span of kind retrieval below
        `parent`.

        Raises:
            ModelError: the texts could not be embedded.
        """
        pool = [(demo, text) for demo in demos if (text := _text(signature, demo))]
        if not pool:
            return []
        texts = tuple(text for _, text in pool)
        span = parent.run.begin(
            "retrieval", "demonstrations", parent_id=parent.id, path=parent.path
        )
        try:
            index, usage = await self._pool(texts).indexes.index(_WHOLE, embedder)
            query = await embedder.embed([_text(signature, inputs)], kind="document")
            ranking = index.dense(query.vectors[0], count)
        except BaseException as error:
            span.end(error=error)
            raise
        attributes: dict[str, object] = {
            "demonstrations": [demos.index(pool[place][0]) for place, _ in ranking],
            "scores": [score for _, score in ranking],
            "embedder": embedder.name,
            "k": count,
        }
        span.end(usage=usage + query.usage.of_model(query.model), attributes=attributes)
        return [pool[place][0] for place, _ in ranking]

    def _pool(self, texts: tuple[str, ...]) -> "_Pool":
        with self._lock:
            pool = self._pools.pop(texts, None) or _Pool(texts)
            self._pools[texts] = pool
            while len(self._pools) > _MAX_POOLS:
                self._pools.popitem(last=False)
            return pool


class _Pool:
    """The texts of some demonstrations as documents, which never change."""

    revision = 0

    def __init__(self, texts: Sequence[str]) -> None:
        self._documents = {
            str(number): DocumentVersion(SourceDocument(key=str(number), text=text), 1)
            for number, text in enumerate(texts)
        }
        self.indexes = IndexCache(self, language=None)

    def snapshot(self) -> tuple[int, Mapping[str, DocumentVersion]]:
        """See `DocumentSource.snapshot`."""
        return self.revision, self._documents


class _WholeText:
    """Divides nothing: the demonstrations are as long as they are."""

    fingerprint = "whole"

    def divide(self, text: str) -> list[Chunk]:
        """Return the text as one chunk."""
        return [Chunk(text=text, start=0, end=len(text))]


_WHOLE: Final = _WholeText()


def _text(signature: Signature, values: Mapping[str, Any]) -> str:
    return " | ".join(
        f"{field.wire_name}: {text_of(values[name])}"
        for name, field in signature.input_fields.items()
        if values.get(name) is not None
    )


def nearest_problem(slot: str, value: object) -> str:
    """Return what `nearest` or `embedder` accepts instead of a value, empty if it fits."""
    if value is None:
        return ""
    if slot == "nearest":
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        fits = is_number and value in range(1, MAX_NEAREST + 1)
        return "" if fits else f"a whole number from 1 to {MAX_NEAREST}, not {shorten(value)}"
    fits = isinstance(value, str) or callable(getattr(value, "embed", None))
    return "" if fits else f"an embedder or its string, such as 'offline', not {shorten(value)}"
