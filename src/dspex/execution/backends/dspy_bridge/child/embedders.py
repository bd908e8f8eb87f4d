"""`dspy.Embedder` with the name of a model: the parent embeds, with its keys, budget and cache."""

import base64
import importlib
from functools import wraps
from typing import Any

import dspy
from dspy.utils.unbatchify import Unbatchify

from . import compat

_BATCH = 100  # texts in one message
_IGNORED = ("api_key", "api_base", "base_url", "caching", "num_retries", "timeout")


class EmbedderError(ValueError):
    """An embedder has settings that the parent does not know."""

    code = "definition"


def redirect_embedders() -> None:
    """Redirect the embedders that name a model to the parent; functions stay in this process.

    `dspy.Embeddings` collects queries of several calls in a thread of its own. Here each query is
    embedded in the thread of its call, which tells the parent for which run.
    """
    before, before_async = dspy.Embedder.__call__, dspy.Embedder.acall

    @wraps(before)
    def call(embedder: Any, inputs: Any, *items: Any, **settings: Any) -> Any:
        if not isinstance(embedder.model, str):
            return before(embedder, inputs, *items, **settings)
        name = _name(embedder, {**embedder.default_kwargs, **settings})
        texts = [inputs] if isinstance(inputs, str) else list(inputs)
        numpy = importlib.import_module("numpy")
        vectors = [
            numpy.frombuffer(_embed(name, batch), dtype="<f4").reshape(len(batch), -1)
            for start in range(0, len(texts), _BATCH)
            if (batch := texts[start : start + _BATCH])
        ]
        rows = numpy.concatenate(vectors) if vectors else numpy.zeros((0, 0), "float32")
        return rows[0] if isinstance(inputs, str) else rows

    @wraps(before_async)
    async def acall(embedder: Any, inputs: Any, *items: Any, **settings: Any) -> Any:
        if not isinstance(embedder.model, str):
            return await before_async(embedder, inputs, *items, **settings)
        return call(embedder, inputs, *items, **settings)

    dspy.Embedder.__call__, dspy.Embedder.acall = call, acall
    Unbatchify.__call__ = lambda self, item: self.batch_fn([item])[0]


def _name(embedder: Any, settings: "dict[str, Any]") -> str:
    """Return the name by which the parent knows the model."""
    settings = {key: value for key, value in settings.items() if value is not None}
    if unknown := [key for key in settings if key not in (*_IGNORED, "batch_size")]:
        raise EmbedderError(
            f"the embedder {embedder.model!r} has {unknown[0]!r}, which the process of dspex does "
            "not pass on; leave it out, or give dspy.Embedder a function"
        )
    model: str = embedder.model
    base = settings.get("api_base") or settings.get("base_url")
    if base:
        return f"{base}#{model.partition('/')[2] or model}"
    return model if "/" in model else f"openai/{model}"


def _embed(name: str, texts: "list[str]") -> bytes:
    """Return the vectors of texts, float32."""
    call, trail = compat.setting("dspex_embedding_call"), compat.setting("dspex_trail")
    if call is None:
        raise RuntimeError(f"the embedder {name!r} was called while no program is created or runs")
    place = {"path": ""} if trail is None else {"path": "", **trail.current_place()}
    request = {"name": name, "texts": texts, "kind": "document", **place}
    return base64.b64decode(call.callback("embed", request)["text"])
