"""Judges: programs that score what another program answers, and give the reason."""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Self

import msgspec

from dspex.arguments import checks_names
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
_SEMANTIC_F1 = "inputs, expected, outputs -> reason, recall: probability, precision: probability"
_SEMANTIC_F1_INSTRUCTIONS = (
    "Compare what the outputs of a program say with what was expected; wording does not count. "
    "First list the key ideas of both in short. Then give the recall, which is the share of the "
    "expected ideas that the outputs contain, and the precision, which is the share of the ideas "
    "in the outputs that were expected."
)
_GROUNDED = "inputs, outputs -> reason, score: probability"
_GROUNDED_INSTRUCTIONS = (
    "Check whether the answer in the outputs of a program is supported by the passages among its "
    "inputs and outputs. First list the claims of the answer, each with the passage that supports "
    "it or none. Then give the share of the claims that are supported, as the score; it is 1 if "
    "there are no claims. What you know besides does not count."
)
_PARTS = ("precision", "recall")  # a judge may give these in place of a score
_NUMBERS = {"bool", "int", "float", "probability", "confidence_score", "similarity_score"}
_TEXTS = {"str", "reasoning_chain"}


@checks_names
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


@checks_names
class SemanticF1(Predict):
    """A judge: how much of the expected answer an answer says, and how much of it is expected.

    Its score is the harmonic mean of both. It is also a program of its own, like `Judge`.
    """

    def __init__(self, *, model: Any = None) -> None:
        """Take the judging model (by default the context's)."""
        super().__init__(Signature(_SEMANTIC_F1, _SEMANTIC_F1_INSTRUCTIONS), model=model)

    def node(self, path: ModulePath) -> Node:
        """Return this judge as data, which is that of a `Predict`."""
        return self._node(path)


@checks_names
class Groundedness(Predict):
    """A judge: the share of the claims in an answer that its inputs and passages support.

    It is also a program of its own, like `Judge`. `supported` needs no model, but only checks that
    cited sources occur.
    """

    def __init__(self, *, model: Any = None) -> None:
        """Take the judging model (by default the context's)."""
        super().__init__(Signature(_GROUNDED, _GROUNDED_INSTRUCTIONS), model=model)

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
    """A program as a metric: the outputs `scores` and `reason` of its runs are read.

    Of several scores (precision and recall), the harmonic mean is the score.

    `model` replaces the model of the context; a model that the program itself names stays.
    """

    name: str
    module: Module
    scores: tuple[str, ...]
    reason: str | None
    model: str | None = None

    @classmethod
    def of(cls, module: Module, *, name: str, model: str | None = None) -> Self:
        """Return a module as a metric.

        Raises:
            DefinitionError: it is not clear which output is the score.
        """
        scores, reason = judge_outputs(module.contract(), name)
        return cls(name=name, module=module, scores=scores, reason=reason, model=model)

    def context(self, context: RunContext) -> RunContext:
        """Return the context of a run of the judge.

        Raises:
            ConfigurationError: the model cannot be opened.
        """
        if self.model is None:
            return context
        unwrapped = msgspec.structs.replace(context, wrapper=None)
        return msgspec.structs.replace(context, model=unwrapped.model_for(self.model))

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
        scores = [_score(verdict, name) for name in self.scores]
        score = scores[0] if len(scores) == 1 else _harmonic_mean(scores)
        reason = "" if self.reason is None else str(verdict[self.reason])
        return Judgement(score=score, reason=reason, usage=verdict.usage)


def judge_outputs(signature: Signature, name: str) -> tuple[tuple[str, ...], str | None]:
    """Return the names of the outputs that are the scores and the reason of a judge.

    The score is the output `score`, or else `precision` and `recall`, or else the only number or
    bool; the reason is the output
    `reason`, or else the first text, if any.

    Raises:
        DefinitionError: there is no such score, or several.
    """
    types = {name: part.type for name, part in signature.output_fields.items()}
    numbers = [name for name, type_ in types.items() if _is_number(type_)]
    texts = [name for name, type_ in types.items() if type_.kind in _TEXTS]
    reason = "reason" if "reason" in texts else next(iter(texts), None)
    if "score" in numbers:
        return ("score",), reason
    if set(_PARTS) <= set(numbers):
        return _PARTS, reason
    if len(numbers) != 1:
        problem = f"several ({', '.join(numbers)}): name one `score`" if numbers else "none"
        raise DefinitionError(
            f"the judge {name!r} needs one output that is a number or a bool, such as "
            f"`score: probability`, and has {problem}. Its outputs are: {', '.join(types)}"
        )
    return (numbers[0],), reason


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


def _score(verdict: Prediction, name: str) -> float:
    score = finite_score(verdict[name])
    if score is None:
        raise ExecutionError(f"its {name} is {shorten(verdict[name])}, not a number")
    return score


def _harmonic_mean(scores: list[float]) -> float:
    return statistics.harmonic_mean(scores) if all(score > 0 for score in scores) else 0.0


def _is_number(type_: Type) -> bool:
    choices: Any = type_.constraint("one_of") if type_.kind == "atom" else None
    is_number = bool(choices) and all(isinstance(choice, int | float) for choice in choices)
    return type_.python is None and (type_.kind in _NUMBERS or is_number)
