"""A retriever of dspy, which runs in a worker."""

from collections.abc import Mapping, Sequence
from typing import Any

from dspex.errors import InputError
from dspex.execution.backends.backend import Backend
from dspex.execution.backends.backend_module import BackendModule
from dspex.execution.modules.dspy_modules import RETRIEVER
from dspex.execution.retrieval import Where
from dspex.execution.retrieval.retriever import check_query
from dspex.language.programs import ROOT, Node, Program
from dspex.language.records import Passage
from dspex.language.signatures import Signature

_SIGNATURE = Signature("query, k: int -> passages: list[any]")


class DspyRetriever:
    """Searches by a retriever of dspy: an RM, `Embeddings`, `ColBERTv2`, a module or a function.

    Its code runs in a worker of the backend, which the caller starts and closes. Passages without a
    score get 1 divided by their rank. dspy's retrievers have no filters.
    """

    def __init__(
        self,
        target: str,
        backend: Backend,
        *,
        init: Mapping[str, Any] | None = None,
        name: str = "",
    ) -> None:
        """Take the import path of the retriever.

        Args:
            target: "pkg.mod:name" of an object that is called with a query, or of its class.
            backend: a started `DspyBackend` whose `paths` have the module.
            init: the arguments of a class.
            name: the name in spans, by default that in `target`.
        """
        self.name = name or target.rpartition(":")[2]
        config: dict[str, Any] = {"target": target, "init": dict(init or {})}
        root = Node(
            id=str(ROOT), kind=RETRIEVER.name, signature=_SIGNATURE, backend="dspy", config=config
        )
        program = Program(name=self.name, signature=_SIGNATURE, root=root)
        self._module = BackendModule(program, backend)

    async def search(
        self, query: str, k: int = 5, where: Where | Mapping[str, Any] | None = None
    ) -> Sequence[Passage]:
        """Return at most `k` passages; see `Retriever.search`.

        Raises:
            InputError: there are conditions.
        """
        check_query(query, k)
        if Where.parse(where):
            raise InputError(f"where: the retriever {self.name!r} of dspy has no filters")
        prediction = await self._module.acall(query=query, k=k)
        return [
            Passage(
                text=row["text"],
                id=row["id"] or f"{self.name}#{rank}",
                score=1 / rank if row["score"] is None else row["score"],
            )
            for rank, row in enumerate(prediction.passages, 1)
        ]
