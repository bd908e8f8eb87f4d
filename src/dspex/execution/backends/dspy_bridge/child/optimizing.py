"""dspy's optimizers and its programs over many examples, with progress as it happens."""

import inspect
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dspy

from .programs import DefinitionError, describe
from .values import Taking, plain, prediction_of, taken, told

OPTIMIZERS = {
    name: found
    for name in (
        "LabeledFewShot",
        "BootstrapFewShot",
        "BootstrapFewShotWithRandomSearch",
        "BootstrapFewShotWithOptuna",
        "COPRO",
        "MIPROv2",
        "SIMBA",
        "InferRules",
        "GEPA",
        "BetterTogether",
    )
    if (found := getattr(dspy, name, None) or getattr(dspy.teleprompt, name, None)) is not None
}
_WEIGHTS = "it trains the weights of a model, and models answer in the parent, which has no weights to give"
_RUNS = "search without it, or use it inside a module of your own (import_program)"
REFUSED = {
    "KNNFewShot": f"what it makes picks demonstrations at every call, so there is nothing to store: {_RUNS}",
    "Ensemble": f"it puts several programs into one and learns nothing about this one: {_RUNS}",
    "AvatarOptimizer": "it asks dspy.TypedPredictor, which dspy itself has removed",
    "BootstrapFinetune": _WEIGHTS,
    "GRPO": _WEIGHTS,
}


class _Scoring:
    """The metric, asked of the parent, and the count of what it has said."""

    def __init__(self, call: Any, total: int) -> None:  # noqa: ANN401
        self._call = call
        self._lock = threading.Lock()
        self._count, self._sum, self._examples = 0, 0.0, total

    def __call__(self, example: Any, prediction: Any, trace: Any = None) -> float:  # noqa: ANN401
        """Return the score as it is: what counts as good enough is the optimizer's part."""
        return self.graded(example, prediction)[0]

    def graded(self, example: Any, prediction: Any) -> "tuple[float, str | None]":  # noqa: ANN401
        """Return the score, and what the metric has to say about it."""
        row = {"example": told(dict(example)), "prediction": prediction_of(None, prediction)}
        answer = self._call.callback("metric", row)
        if isinstance(answer, dict):
            score, feedback = float(answer["score"]), answer.get("feedback")
        else:
            score, feedback = float(answer), None
        with self._lock:
            self._count += 1
            self._sum += score
            done, mean = self._count, self._sum / self._count
        self._call.emit("progress", {"scored": done, "last": score, "mean": mean, "examples": self._examples})
        return score, feedback

    def told_why(self, gold: Any, pred: Any, *_traces: Any) -> Any:  # noqa: ANN401
        """Return what GEPA asks for: the score with the feedback, where the metric gives one. It gives five values."""
        score, feedback = self.graded(gold, pred)
        return score if feedback is None else dspy.Prediction(score=score, feedback=feedback)


def _examples(rows: "list[dict[str, Any]]", inputs: "list[str]", taking: Taking) -> "list[Any]":
    return [dspy.Example(**taken(taking, row)).with_inputs(*inputs) for row in rows]


def optimize(call: Any, program: Any, args: "dict[str, Any]", *, taking: Taking) -> "dict[str, Any]":  # noqa: ANN401
    """Run one of dspy's optimizers on a copy of `program`; return its predictors and state afterwards.

    Raises:
        DefinitionError: there is no such optimizer or option, or it cannot run here; the message says why.
    """
    name = args["optimizer"]
    trainset = _examples(args["trainset"], args["inputs"], taking)
    scoring = _Scoring(call, len(trainset))
    made = _made(name, args.get("options", {}), scoring)
    given: dict[str, Any] = {"trainset": trainset, **args.get("compile", {})}
    if args.get("valset"):
        given["valset"] = _examples(args["valset"], args["inputs"], taking)
    if name == "BootstrapFewShotWithOptuna":  # it wants the number twice
        given.setdefault("max_demos", made.max_num_samples)
    student = program.deepcopy()
    if name == "BetterTogether":
        _prepare_together(student, made, given)
    call.emit("progress", {"state": "begun", "optimizer": name, "examples": len(trainset)})
    best = made.compile(student, **_fitting(made.compile, given))
    if getattr(best, "flag_compilation_error_occurred", False):
        raise RuntimeError("a step of BetterTogether failed; the log of the worker says why")
    return {"predictors": describe(best), "state": plain(best.dump_state())}


def _made(name: str, options: "dict[str, Any]", scoring: _Scoring) -> Any:  # noqa: ANN401
    if name in REFUSED:
        raise DefinitionError(f"the optimizer {name} cannot run over the bridge: {REFUSED[name]}")
    if name not in OPTIMIZERS:
        known = ", ".join(sorted(OPTIMIZERS))
        raise DefinitionError(f"there is no optimizer {name!r} here; optimizers are: {known}")
    if "metric" in options:
        raise DefinitionError("the metric answers in the parent: give it beside the options, not as one of them")
    given: dict[str, Any] = {"metric": scoring, **options}
    if name == "GEPA":
        given = {"metric": scoring.told_why, "reflection_lm": dspy.settings.lm, **options}
        if not given.keys() & {"auto", "max_full_evals", "max_metric_calls"}:
            given["auto"] = "light"
    elif name == "BetterTogether":
        steps = {key: value for key, value in options.items() if isinstance(value, dict) and "optimizer" in value}
        if not steps or steps.keys() != options.keys():
            raise DefinitionError(
                "BetterTogether takes its steps as options, each with its optimizer: "
                "{'p': {'optimizer': 'BootstrapFewShot', ...}, 'q': {'optimizer': 'GEPA', ...}}; "
                f"without them dspy would train weights, and {_WEIGHTS}"
            )
        for key, step in steps.items():
            own = {option: value for option, value in step.items() if option != "optimizer"}
            given[key] = _made(step["optimizer"], own, scoring)
    try:
        return OPTIMIZERS[name](**_fitting(OPTIMIZERS[name].__init__, given))
    except (TypeError, ValueError, AssertionError, ImportError) as error:
        raise DefinitionError(f"the optimizer {name} cannot be made: {error}") from error


def _prepare_together(student: Any, made: Any, given: "dict[str, Any]") -> None:  # noqa: ANN401
    """Name the order of the steps where the caller does not, and give every predictor a model, which dspy demands."""
    given.setdefault("strategy", " -> ".join(made.optimizers))
    for predictor in student.predictors():
        if predictor.lm is None:
            predictor.lm = dspy.settings.lm


def _fitting(function: Any, options: "dict[str, Any]") -> "dict[str, Any]":  # noqa: ANN401
    """Return the options that `function` takes: dspy's optimizers differ, and only ours may be left out silently."""
    known = inspect.signature(function).parameters
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in known.values()):
        return options
    if unknown := options.keys() - known.keys() - {"metric", "valset"}:
        raise DefinitionError(f"the optimizer takes no {', '.join(sorted(unknown))}; it takes: {', '.join(known)}")
    return {key: value for key, value in options.items() if key in known}


def evaluate(call: Any, program: Any, args: "dict[str, Any]", *, taking: Taking) -> "dict[str, Any]":  # noqa: ANN401
    """Run `program` on every row; a row that fails has an error and no score."""
    rows = args["rows"]
    scoring, settings = _Scoring(call, len(rows)), dict(dspy.settings.config)
    overrides = {
        key: settings[key] for key in ("lm", "adapter", "callbacks", "disable_history", "dspex_call", "dspex_models")
    }

    def one(row: "dict[str, Any]") -> "dict[str, Any]":
        try:
            (example,) = _examples([row], args["inputs"], taking)
            with dspy.context(**overrides):
                prediction = program(**example.inputs())
            outputs = prediction_of(program, prediction)
            return {"outputs": outputs, "score": scoring(example, prediction), "error": None}
        except Exception as error:  # noqa: BLE001  # a failing row is a row
            return {"outputs": None, "score": None, "error": f"{type(error).__name__}: {error}"}

    with ThreadPoolExecutor(args.get("threads", 4)) as threads:
        found = list(threads.map(one, rows))
    return {"rows": found}
