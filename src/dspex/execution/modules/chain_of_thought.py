"""A module that reasons before it answers."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dspex.arguments import checks_names
from dspex.execution.adapters import Adapter
from dspex.execution.clients import LanguageModel
from dspex.execution.clients.embedder import Embedder
from dspex.execution.modules.module import Module
from dspex.execution.modules.module_kind import ModuleKind, NodeBuilder
from dspex.execution.modules.predict import KIND as PREDICT
from dspex.execution.modules.predict import Predict, SignatureT
from dspex.language.programs import ModulePath, Node
from dspex.language.records import Prediction
from dspex.language.signatures import Signature
from dspex.language.variables import Variable


@checks_names
class ChainOfThought(Module[SignatureT]):
    """Adds the output `reasoning` before the other outputs, so that the model reasons first.

    With `steps`, the reasoning is a list of steps instead of one text. The other arguments are
    those of `Predict`. Source: Wei et al., "Chain-of-Thought Prompting Elicits Reasoning in Large
    Language Models", 2022.
    """

    def __init__(
        self,
        signature: type[SignatureT] | Signature | str,
        *,
        steps: bool = False,
        demos: Iterable[Mapping[str, Any]] = (),
        model: LanguageModel | str | Variable | None = None,
        adapter: Adapter | str | Variable | None = None,
        temperature: float | Variable | None = None,
        max_tokens: int | Variable | None = None,
        top_p: float | Variable | None = None,
        stop: str | Sequence[str] | Variable | None = None,
        seed: int | Variable | None = None,
        repairs: int = 1,
        nearest: int | Variable | None = None,
        embedder: Embedder | str | Variable | None = None,
    ) -> None:
        self.steps = steps
        self.declared = Signature.of(signature)
        type_, desc = (
            ("list[str]", "the steps to the answer") if steps else ("str", "think step by step")
        )
        reasoned = self.declared.prepend("reasoning", type_, desc=desc)
        self.predict: Predict[SignatureT] = Predict(
            reasoned,
            demos=demos,
            model=model,
            adapter=adapter,
            temperature=temperature,
            max_tokens=max_tokens,
            top_p=top_p,
            stop=stop,
            seed=seed,
            repairs=repairs,
            nearest=nearest,
            embedder=embedder,
        )

    def contract(self) -> Signature:
        """Return the signature, `reasoning` included."""
        return self.predict.signature

    async def forward(self, **inputs: Any) -> Prediction[SignatureT]:
        """Call the model once."""
        return await self.predict.acall(**inputs)

    def takes(self, slot: str) -> bool:
        """Return whether `bind` accepts this slot; not `steps`, which shapes the signature."""
        return slot != "config.steps" and super().takes(slot)

    def node(self, path: ModulePath) -> Node:
        """Return this module as data."""
        config = {"steps": True} if self.steps else {}
        children = {"predict": self.predict.node(path.child("predict"))}
        return Node(
            id=str(path),
            kind=KIND.name,
            signature=self.declared,
            config=config,
            children=children,
        )


def _build(node: Node, builder: NodeBuilder) -> ChainOfThought:
    module = ChainOfThought(builder.signature(node), **node.config)
    module.predict = builder.child(node, "predict", Predict)
    return module


KIND = ModuleKind(
    name="chain_of_thought",
    summary="has the model reason before it answers",
    build=_build,
    create=lambda signature, settings, name: ChainOfThought(signature, **settings).to_program(name),
    settings=("steps", *PREDICT.settings),
    backends=frozenset({"native", "dspy"}),
    dspy_class="ChainOfThought",
    replies_with_outputs=True,
)
