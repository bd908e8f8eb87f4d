"""Rerank: a model that orders passages by how well they answer a query."""

from collections.abc import Mapping, Sequence
from typing import Any

from dspex.execution.clients import LanguageModel
from dspex.execution.modules.module import Module
from dspex.execution.modules.module_kind import ModuleKind, NodeBuilder
from dspex.execution.modules.predict import Predict
from dspex.language.programs import ModulePath, Node
from dspex.language.records import Passage
from dspex.language.signatures import Signature
from dspex.language.variables import Variable

_ORDER = Signature(
    "query, passages: list[Passage] -> order: list[int]",
    "Order the passages by how well they answer the query. Give their numbers, the best first; "
    "leave out passages that do not help.",
)


class Rerank(Module):
    """Has a model order passages; passages that it leaves out follow in their previous order.

    Numbers that no passage has are ignored.
    """

    signature = "query, passages: list[Passage] -> ranking: list[Passage]"

    def __init__(self, *, model: LanguageModel | str | Variable | None = None) -> None:
        """Take the model, by default that of the context."""
        self.predict: Predict[Any] = Predict(_ORDER, model=model)

    async def rerank(self, query: str, passages: Sequence[Passage]) -> list[Passage]:
        """Return the passages in a better order; see `Reranker.rerank`."""
        prediction = await self.acall(query=query, passages=list(passages))
        return list(prediction.ranking)

    async def forward(self, query: str, passages: list[Passage]) -> Mapping[str, Any]:
        """Ask the model once, or not at all if there is nothing to order."""
        if len(passages) < 2:
            return {"ranking": passages}
        order = (await self.predict.acall(query=query, passages=passages)).order
        numbers = [number for number in order if 1 <= number <= len(passages)]
        ranks = dict.fromkeys([*numbers, *range(1, len(passages) + 1)])
        return {"ranking": [passages[number - 1] for number in ranks]}

    def node(self, path: ModulePath) -> Node:
        """Return this module as data."""
        children = {"predict": self.predict.node(path.child("predict"))}
        return Node(id=str(path), kind=KIND.name, signature=self.contract(), children=children)


def _build(node: Node, builder: NodeBuilder) -> Rerank:
    module = Rerank()
    module.predict = builder.child(node, "predict", Predict)
    return module


KIND = ModuleKind(name="rerank", summary="has a model order passages by a query", build=_build)
