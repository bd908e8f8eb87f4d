"""Majority: run a module several times and return the most frequent answer."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from dspex.arguments import checks_names
from dspex.errors import DefinitionError
from dspex.execution.modules.attempts import check_count, check_module, sample
from dspex.execution.modules.inner import INNER_SETTINGS, inner_module
from dspex.execution.modules.module import Module
from dspex.execution.modules.module_kind import ModuleKind
from dspex.language.programs import ModulePath, Node, Program
from dspex.language.records import Prediction
from dspex.language.records.canonical import json_bytes
from dspex.language.records.prediction import Outputs
from dspex.language.signatures import Signature
from dspex.language.signatures.codec import plain


def most_frequent(
    predictions: Sequence[Prediction[Outputs]], *, field: str | None = None
) -> Prediction[Outputs]:
    """Return the first prediction with the most frequent value of an output.

    Texts are compared without case, punctuation at their ends and repeated white space; other
    values by their JSON form. Of equally frequent values the one that came first wins; an empty
    text never wins against another value.

    Args:
        predictions: at least one, in order of preference.
        field: the output to vote on; by default the last one.

    Raises:
        DefinitionError: there are no predictions, or the first has no such output.
    """
    if not predictions:
        raise DefinitionError("a majority needs at least one prediction")
    name = field if field is not None else list(predictions[0])[-1]
    if name not in predictions[0]:
        raise DefinitionError(
            f"the predictions have no output {name!r} to vote on; they have: "
            f"{', '.join(predictions[0])}"
        )
    votes = [_comparable(prediction.get(name)) for prediction in predictions]
    counts = Counter(vote for vote in votes if vote) or Counter(votes)
    winner = counts.most_common(1)[0][0]  # of equal counts, the first that was counted
    return predictions[votes.index(winner)]


def _comparable(value: object) -> object:
    if isinstance(value, str):
        return " ".join(value.casefold().split()).strip(".,;:!?\"'` ")
    return json_bytes(plain(value))


@checks_names
class Majority(Module[Outputs]):
    """Runs a module `n` times at once, with new requests, and returns the most frequent answer.

    The vote is on one output, see `most_frequent`. Attempts that fail have no vote. Listeners to a
    stream do not hear the attempts. Source: Wang et al., "Self-Consistency Improves Chain of
    Thought Reasoning in Language Models", 2023.
    """

    def __init__(self, module: Module[Outputs], *, n: int = 5, field: str | None = None) -> None:
        """Take the module, the number of attempts, and the output to vote on (default: the last).

        Raises:
            DefinitionError: `n` is invalid, or the module has no such output.
        """
        check_module("Majority", module)
        self.module = module
        self.n = check_count("n", n)
        outputs = list(module.contract().output_fields)
        self.field = outputs[-1] if field is None else field
        if self.field not in outputs:
            raise DefinitionError(
                f"there is no output {self.field!r} to vote on; outputs are: {', '.join(outputs)}"
            )

    def contract(self) -> Signature:
        """Return the signature of the module."""
        return self.module.contract()

    async def forward(self, **inputs: Any) -> Prediction[Outputs]:
        """Run the attempts and vote.

        Raises:
            ExecutionError: all attempts failed.
        """
        return most_frequent(await sample(self.module, inputs, self.n), field=self.field)

    def node(self, path: ModulePath) -> Node:
        """Return this module as data."""
        return Node(
            id=str(path),
            kind=KIND.name,
            config={"n": self.n, "field": self.field},
            children={"module": self.module.node(path.child("module"))},
        )


def _dspy_problem(node: Node) -> str:
    inner, field = node.children.get("module"), node.config["field"]
    while isinstance(inner, Node) and inner.signature is None:
        inner = inner.children.get("module")
    signature = inner.signature if isinstance(inner, Node) else None
    output = None if signature is None else signature.output_fields.get(field)
    is_text = output is None or output.type.kind == "str"
    return "" if is_text else f"dspy's majority compares texts, and {field!r} is not one"


def _create(signature: Signature, settings: Mapping[str, Any], name: str) -> Program:
    options = {key: settings[key] for key in ("n", "field") if key in settings}
    return Majority(inner_module(signature, settings), **options).to_program(name)


KIND = ModuleKind(
    name="majority",
    summary="runs a module several times and returns the most frequent answer",
    build=lambda node, builder: Majority(builder.child(node, "module", Module), **node.config),
    create=_create,
    settings=("n", "field", *INNER_SETTINGS),
    backends=frozenset({"native", "dspy"}),
    dspy_problem=_dspy_problem,
)
