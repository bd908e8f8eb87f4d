"""MultiChainComparison: compare several attempts and answer anew."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from dspex.arguments import checks_names
from dspex.errors import InputError
from dspex.execution.adapters import Adapter
from dspex.execution.clients import LanguageModel
from dspex.execution.modules.attempts import check_count, sample
from dspex.execution.modules.chain_of_thought import ChainOfThought
from dspex.execution.modules.module import Module
from dspex.execution.modules.module_kind import ModuleKind, NodeBuilder
from dspex.execution.modules.predict import Predict, SignatureT
from dspex.language.programs import ModulePath, Node
from dspex.language.records import Prediction
from dspex.language.signatures import Signature
from dspex.language.variables import Variable

COMPLETIONS: Final = "completions"
RATIONALE: Final = "rationale"


@checks_names
class MultiChainComparison(Module[SignatureT]):
    """Shows the model several attempts at a task, and has it reason over them and answer.

    The attempts are `n` chains of thought on the same inputs, drafts at once with new requests; or
    the input `completions`: `n` predictions or rows with `reasoning` (or `rationale`) and the last
    output. The outputs are `rationale` and those of the signature. Source: Yoran et al., "Answering
    Questions by Meta-Reasoning over Multiple Chains of Thought", 2023.
    """

    def __init__(
        self,
        signature: type[SignatureT] | Signature | str,
        *,
        n: int = 3,
        temperature: float | Variable | None = 0.7,
        model: LanguageModel | str | Variable | None = None,
        adapter: Adapter | str | Variable | None = None,
        max_tokens: int | Variable | None = None,
    ) -> None:
        """Take the signature and the number of attempts; the others are those of `Predict`.

        Raises:
            DefinitionError: `n` is invalid.
        """
        self.n = check_count("n", n)
        self.declared = Signature.of(signature)
        compared = self.declared
        for number in range(1, self.n + 1):
            compared = compared.append(
                _attempt_field(number), role="input", desc="an attempt at this task"
            )
        compared = compared.prepend(RATIONALE, desc="what the attempts together show")
        settings: dict[str, Any] = {
            "temperature": temperature,
            "model": model,
            "adapter": adapter,
            "max_tokens": max_tokens,
        }
        self.draft: ChainOfThought[SignatureT] = ChainOfThought(self.declared, **settings)
        self.predict: Predict[SignatureT] = Predict(compared, **settings)

    def contract(self) -> Signature:
        """Return the signature with the optional input `completions` and the output `rationale`."""
        return self.declared.append(
            COMPLETIONS, "list[any] | None", role="input", default=None
        ).prepend(RATIONALE)

    async def forward(self, **inputs: Any) -> Prediction[SignatureT]:
        """Draw the attempts, unless they are given, and compare them.

        Raises:
            InputError: there are not `n` completions, or one lacks its reasoning or its answer.
            ExecutionError: all attempts failed, or the comparison.
        """
        values = self.contract().validate_inputs(inputs)
        completions: Sequence[Mapping[str, Any]] | None = values.pop(COMPLETIONS, None)
        if completions is None:
            drafts = await sample(self.draft, values, self.n)
            completions = [drafts[number % len(drafts)] for number in range(self.n)]
        elif len(completions) != self.n:
            raise _completions_error(f"{self.n} completions, not {len(completions)}")
        attempts = {
            _attempt_field(number): self._attempt_text(completion, number)
            for number, completion in enumerate(completions, start=1)
        }
        return await self.predict.acall(**values, **attempts)

    def _attempt_text(self, completion: Mapping[str, Any], number: int) -> str:
        name = list(self.declared.output_fields)[-1]
        reasoning = completion.get(RATIONALE, completion.get("reasoning"))
        if reasoning is None or name not in completion:
            raise _completions_error(f"`reasoning` and {name!r} in completion {number}")
        steps = reasoning if isinstance(reasoning, str) else "; ".join(map(str, reasoning))
        return f"{steps.strip()}\nAnswer: {completion[name]}"

    def node(self, path: ModulePath) -> Node:
        """Return this module as data."""
        children = {
            "draft": self.draft.node(path.child("draft")),
            "predict": self.predict.node(path.child("predict")),
        }
        return Node(
            id=str(path),
            kind=KIND.name,
            signature=self.declared,
            config={"n": self.n},
            children=children,
        )


def _completions_error(expected: str) -> InputError:
    return InputError(f"{COMPLETIONS}: expected {expected}")


def _attempt_field(number: int) -> str:
    return f"reasoning_attempt_{number}"


def _build(node: Node, builder: NodeBuilder) -> MultiChainComparison:
    module = MultiChainComparison(builder.signature(node), **node.config)
    module.draft = builder.child(node, "draft", ChainOfThought)
    module.predict = builder.child(node, "predict", Predict)
    return module


KIND = ModuleKind(
    name="multi_chain_comparison",
    summary="has the model compare several attempts and answer anew",
    build=_build,
    create=lambda signature, settings, name: MultiChainComparison(signature, **settings).to_program(
        name
    ),
    settings=("n", "model", "adapter", "temperature", "max_tokens"),
    backends=frozenset({"native", "dspy"}),
)
