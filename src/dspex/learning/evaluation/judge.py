"""Judges: programs that score what another program answers, and give the reason."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Self

from dspex.error_text import shorten
from dspex.errors import DefinitionError, ExecutionError
from dspex.execution.context import RunContext
from dspex.execution.modules import Module, Predict
from dspex.language.programs import ModulePath, Node
from dspex.language.records import Example, Prediction, Usage
from dspex.language.signatures import Signature
from dspex.language.signatures.types import Type
from dspex.learning.evaluation.metric import finite_score

TEXTS = ("task", "inputs", "outputs", "expected")  # what a judge may read as one text each
_SIGNATURE = "task, inputs, outputs -> reason, score: probability"
_INSTRUCTIONS = (
    "Judge the outputs of a program by the criterion. First give a short reason, then a score from "
    "0 (not at all) to 1 (entirely).\n\nThe criterion: "
)
_NUMBERS = {"bool", "int", "float", "probability", "confidence_score", "similarity_score"}
_TEXTS = {"str", "reasoning_chain"}


class Judge(Predict):
    """Has a model score the outputs of a program by a criterion, from 0 to 1, with a reason.

    It is a metric: `evaluate(program, rows, Judge("is polite"))`. It is also a program of its own,
    stored as the `Predict` that it is, and run and optimized like any other. Any program with one
    number or bool among its outputs is a judge as well.
    """

    def __init__(self, criterion: str, *, model: Any = None) -> None:
        """Take the criterion, and the judging model (by default the context's)."""
        super().__init__(Signature(_SIGNATURE, _INSTRUCTIONS + criterion), model=model)

    def node(self, path: ModulePath) -> Node:
        """Return this judge as data, which is that of a `Predict`."""
        return self._node(path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What a judge says of one prediction, and what that cost."""

    score: float
    reason: str = ""
    usage: Usage = field(default_factory=Usage)


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeMetric:
    """A program as a metric: the outputs `score` and `reason` of its runs are read.

    `model` replaces the model of the context; a model that the program itself names stays.
    """

    name: str
    module: Module
    score: str
    reason: str | None
    model: str | None = None

    @classmethod
    def of(cls, module: Module, *, name: str, model: str | None = None) -> Self:
        """Return a module as a metric.

        Raises:
            DefinitionError: it is not clear which output is the score.
        """
        score, reason = judge_outputs(module.contract(), name)
        return cls(name=name, module=module, score=score, reason=reason, model=model)

    def context(self, context: RunContext) -> RunContext:
        """Return the context of a run of the judge.

        Raises:
            ConfigurationError: the model cannot be opened.
        """
        if self.model is None:
            return context
        return replace(context, model=replace(context, wrapper=None).model_for(self.model))

    async def judge(
        self, example: Example, prediction: Prediction, *, contract: Signature, context: RunContext
    ) -> Judgement:
        """Return what the judge says of `prediction`, the answer of a program with `contract`.

        Raises:
            DspexError: the judge failed, or its score is not a finite number.
        """
        inputs = {name: value for name, value in example.items() if name in contract.input_fields}
        texts = {
            "task": contract.instructions,
            "inputs": str(inputs),
            "outputs": str(prediction.to_dict()),
            "expected": str({name: example[name] for name in example if name not in inputs}),
        }
        values = {**example, **prediction, **texts}
        names = [name for name in self.module.contract().input_fields if name in values]
        verdict = await self.module.acall(
            self.context(context), **{name: values[name] for name in names}
        )
        score = finite_score(verdict[self.score])
        if score is None:
            raise ExecutionError(f"its score is {shorten(verdict[self.score])}, not a number")
        reason = "" if self.reason is None else str(verdict[self.reason])
        return Judgement(score=score, reason=reason, usage=verdict.usage)


def judge_outputs(signature: Signature, name: str) -> tuple[str, str | None]:
    """Return the names of the outputs that are the score and the reason of a judge.

    The score is the output `score`, or else the only number or bool; the reason is the output
    `reason`, or else the first text, if any.

    Raises:
        DefinitionError: there is no such score, or several.
    """
    types = {name: part.type for name, part in signature.output_fields.items()}
    numbers = [name for name, type_ in types.items() if _is_number(type_)]
    texts = [name for name, type_ in types.items() if type_.kind in _TEXTS]
    if len(numbers) != 1 and "score" not in numbers:
        problem = f"several ({', '.join(numbers)}): name one `score`" if numbers else "none"
        raise DefinitionError(
            f"the judge {name!r} needs one output that is a number or a bool, such as "
            f"`score: probability`, and has {problem}. Its outputs are: {', '.join(types)}"
        )
    reason = "reason" if "reason" in texts else next(iter(texts), None)
    return ("score" if "score" in numbers else numbers[0]), reason


def check_judge_inputs(
    judge: Signature, name: str, *, contract: Signature, fields: Iterable[str]
) -> None:
    """Check that a program with `contract` and rows with `fields` give a judge what it reads.

    Raises:
        DefinitionError: an input of the judge is neither; the message lists what there is.
    """
    available = [*TEXTS, *dict.fromkeys([*contract.output_fields, *fields])]
    for field_name, part in judge.input_fields.items():
        if part.is_required and field_name not in available:
            raise DefinitionError(
                f"the judge {name!r} reads {field_name!r}, which is neither an output of the "
                f"program nor a field of the rows. There are: {', '.join(available)}"
            )


def _is_number(type_: Type) -> bool:
    choices: Any = type_.constraint("one_of") if type_.kind == "atom" else None
    is_number = bool(choices) and all(isinstance(choice, int | float) for choice in choices)
    return type_.python is None and (type_.kind in _NUMBERS or is_number)
