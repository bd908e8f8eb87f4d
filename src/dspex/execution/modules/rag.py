"""RAG: retrieve passages, then answer from them."""

from collections.abc import Mapping
from typing import Any, Final

from dspex.arguments import checks_names
from dspex.errors import DefinitionError
from dspex.execution.clients import LanguageModel
from dspex.execution.modules.chain_of_thought import ChainOfThought
from dspex.execution.modules.module import Module
from dspex.execution.modules.module_kind import ModuleKind, NodeBuilder
from dspex.execution.modules.predict import KIND as PREDICT
from dspex.execution.modules.predict import SignatureT
from dspex.execution.modules.retrieve import SETTINGS as RETRIEVE_SETTINGS
from dspex.execution.modules.retrieve import PassageOrder, Retrieve
from dspex.execution.retrieval import Retriever, Searchable, SearchMode
from dspex.execution.retrieval.retriever import Reranker
from dspex.language.programs import ModulePath, Node, Program
from dspex.language.signatures import Signature
from dspex.language.variables import Variable

_PASSAGES: Final = "passages"


@checks_names
class RAG(Module[SignatureT]):
    """Retrieves passages for the first input that is a text, and answers by `ChainOfThought`.

    It is an ordinary program of the parts `retrieve` and `answer`, which may be replaced by modules
    with the same inputs and outputs. The prediction also has the `passages`.
    """

    def __init__(
        self,
        signature: type[SignatureT] | Signature | str,
        collection: Searchable | Retriever | str | Variable,
        *,
        k: int | Variable = 5,
        mode: SearchMode | Variable = "hybrid",
        weight: float | Variable = 0.5,
        where: Mapping[str, Any] | None = None,
        chunking: Mapping[str, Any] | Variable | None = None,
        order: PassageOrder | Variable = "best first",
        rerank: Reranker | bool | Variable = False,
        rewrite: Module | bool | Variable = False,
        candidates: int | Variable = 20,
        model: LanguageModel | str | Variable | None = None,
        adapter: Any = None,
    ) -> None:
        """Take the signature and what to search; the other arguments are those of the parts.

        Raises:
            DefinitionError: the signature has no input that is a text, or has a field `passages`.
        """
        self.declared = Signature.of(signature)
        if _PASSAGES in self.declared.fields:
            raise DefinitionError(f"RAG adds the field {_PASSAGES!r} itself; rename yours")
        self.retrieve = Retrieve(
            collection,
            k=k,
            mode=mode,
            weight=weight,
            where=where,
            chunking=chunking,
            order=order,
            rerank=rerank,
            rewrite=rewrite,
            candidates=candidates,
            query=_query_field(self.declared),
        )
        self.answer: ChainOfThought[Any] = ChainOfThought(
            self.declared.prepend(_PASSAGES, "list[Passage]", role="input"),
            model=model,
            adapter=adapter,
        )

    def contract(self) -> Signature:
        """Return the signature, with `reasoning` and `passages` as outputs."""
        answer = self.answer.contract()
        return answer.remove(_PASSAGES).append(_PASSAGES, "list[Passage]")

    async def forward(self, **inputs: Any) -> Mapping[str, Any]:
        """Search, then call the model."""
        name = self.retrieve.query
        passages = (await self.retrieve.acall(**{name: inputs.get(name)})).passages
        prediction = await self.answer.acall(passages=passages, **inputs)
        return {**prediction.to_dict(), _PASSAGES: passages}

    def node(self, path: ModulePath) -> Node:
        """Return this module as data."""
        parts = {"retrieve": self.retrieve, "answer": self.answer}
        children = {name: part.node(path.child(name)) for name, part in parts.items()}
        return Node(id=str(path), kind=KIND.name, signature=self.declared, children=children)


def _query_field(signature: Signature) -> str:
    for name, field in signature.input_fields.items():
        if field.type.kind == "str":
            return name
    raise DefinitionError(f"RAG needs an input that is a text to search for: {signature.name}")


def _build(node: Node, builder: NodeBuilder) -> RAG:
    module = RAG(builder.signature(node), "stored")
    module.retrieve = builder.child(node, "retrieve", Retrieve)
    module.answer = builder.child(node, "answer", ChainOfThought)
    return module


def _create(signature: Signature, settings: Mapping[str, Any], name: str) -> Program:
    if "collection" not in settings:
        raise DefinitionError("a program of the module rag needs the setting `collection`")
    return RAG(signature, **settings).to_program(name)


KIND = ModuleKind(
    name="rag",
    summary="retrieves passages and answers from them",
    build=_build,
    create=_create,
    settings=(
        *RETRIEVE_SETTINGS,
        *(name for name in PREDICT.settings if name in {"model", "adapter"}),
    ),
)
