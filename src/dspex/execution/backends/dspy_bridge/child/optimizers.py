"""Runs dspy's optimizers and evaluations, with progress events."""

import inspect
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dspy

from .programs import DefinitionError, describe_predictors
from .values import Converters, convert_inputs, plain, prediction_of, to_parent

OPTIMIZERS = {
    name: optimizer
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
    if (optimizer := getattr(dspy, name, None) or getattr(dspy.teleprompt, name, None)) is not None
}
_WEIGHTS = "it trains the weights of a model, and models run in the parent, which cannot train them"
_ALTERNATIVE = "search without it, or use it inside your module (import_program)"
REFUSED = {
    "KNNFewShot": "its result picks demonstrations at every call, so there is nothing to store: "
    f"{_ALTERNATIVE}",
    "Ensemble": f"it combines several programs and learns nothing about this one: {_ALTERNATIVE}",
    "AvatarOptimizer": "it uses dspy.TypedPredictor, which dspy has removed",
    "BootstrapFinetune": _WEIGHTS,
    "GRPO": _WEIGHTS,
}


class _ParentMetric:
    """The metric, which the parent computes, and the statistics of its scores."""

    def __init__(self, call: Any, total: int) -> None:
        self._call = call
        self._lock = threading.Lock()
        self._count, self._sum, self._examples = 0, 0.0, total

    def __call__(self, example: Any, prediction: Any, trace: Any = None) -> float:
        """Return the score unchanged; the optimizer decides whether it is good enough."""
        return self.grade(example, prediction)[0]

    def grade(self, example: Any, prediction: Any) -> "tuple[float, str | None]":
        """Return the score and the feedback of the metric."""
        row = {"example": to_parent(dict(example)), "prediction": prediction_of(None, prediction)}
        answer = self._call.callback("metric", row)
        if isinstance(answer, dict):
            score, feedback = float(answer["score"]), answer.get("feedback")
        else:
            score, feedback = float(answer), None
        with self._lock:
            self._count += 1
            self._sum += score
            count, mean = self._count, self._sum / self._count
        self._call.emit(
            "progress", {"scored": count, "last": score, "mean": mean, "examples": self._examples}
        )
        return score, feedback

    def score_with_feedback(self, gold: Any, pred: Any, *_traces: Any) -> Any:
        """Return the score, with the feedback if there is any; GEPA passes five arguments."""
        score, feedback = self.grade(gold, pred)
        return score if feedback is None else dspy.Prediction(score=score, feedback=feedback)


def _examples(
    rows: "list[dict[str, Any]]", inputs: "list[str]", converters: Converters
) -> "list[Any]":
    return [dspy.Example(**convert_inputs(converters, row)).with_inputs(*inputs) for row in rows]


def optimize(
    call: Any,
    program: Any,
    args: "dict[str, Any]",
    *,
    converters: Converters,
) -> "dict[str, Any]":
    """Run one of dspy's optimizers on a copy of `program`; return its predictors and state.

    Raises:
        DefinitionError: the optimizer or an option is unknown or cannot run here; the message says
            why.
    """
    name = args["optimizer"]
    trainset = _examples(args["trainset"], args["inputs"], converters)
    metric = _ParentMetric(call, len(trainset))
    optimizer = _create_optimizer(name, args.get("options", {}), metric)
    arguments: dict[str, Any] = {"trainset": trainset, **args.get("compile", {})}
    if args.get("valset"):
        arguments["valset"] = _examples(args["valset"], args["inputs"], converters)
    if name == "BootstrapFewShotWithOptuna":  # it needs the number twice
        arguments.setdefault("max_demos", optimizer.max_num_samples)
    student = program.deepcopy()
    if name == "BetterTogether":
        _prepare_together(student, optimizer, arguments)
    call.emit("progress", {"state": "begun", "optimizer": name, "examples": len(trainset)})
    best = optimizer.compile(student, **_accepted_options(optimizer.compile, arguments))
    if getattr(best, "flag_compilation_error_occurred", False):
        raise RuntimeError("a step of BetterTogether failed; the log of the worker says why")
    return {"predictors": describe_predictors(best), "state": plain(best.dump_state())}


def _create_optimizer(name: str, options: "dict[str, Any]", metric: _ParentMetric) -> Any:
    if name in REFUSED:
        raise DefinitionError(f"the optimizer {name} cannot run over the bridge: {REFUSED[name]}")
    if name not in OPTIMIZERS:
        names = ", ".join(sorted(OPTIMIZERS))
        raise DefinitionError(f"unknown optimizer {name!r}; optimizers are: {names}")
    if "metric" in options:
        raise DefinitionError(
            "the metric runs in the parent: pass it beside the options, not as one of them"
        )
    arguments: dict[str, Any] = {"metric": metric, **options}
    if name == "GEPA":
        arguments = {
            "metric": metric.score_with_feedback,
            "reflection_lm": dspy.settings.lm,
            **options,
        }
        if not arguments.keys() & {"auto", "max_full_evals", "max_metric_calls"}:
            arguments["auto"] = "light"
    elif name == "BetterTogether":
        steps = {
            key: value
            for key, value in options.items()
            if isinstance(value, dict) and "optimizer" in value
        }
        if not steps or steps.keys() != options.keys():
            raise DefinitionError(
                "BetterTogether takes its steps as options, each with its optimizer: "
                "{'p': {'optimizer': 'BootstrapFewShot', ...}, 'q': {'optimizer': 'GEPA', ...}}; "
                f"without them dspy would train weights, and {_WEIGHTS}"
            )
        for key, step in steps.items():
            step_options = {
                option: value for option, value in step.items() if option != "optimizer"
            }
            arguments[key] = _create_optimizer(step["optimizer"], step_options, metric)
    try:
        return OPTIMIZERS[name](**_accepted_options(OPTIMIZERS[name].__init__, arguments))
    except (TypeError, ValueError, AssertionError, ImportError) as error:
        raise DefinitionError(f"the optimizer {name} cannot be created: {error}") from error


def _prepare_together(student: Any, optimizer: Any, arguments: "dict[str, Any]") -> None:
    """Set the default order of the steps, and a model for every predictor, which dspy requires."""
    arguments.setdefault("strategy", " -> ".join(optimizer.optimizers))
    for predictor in student.predictors():
        if predictor.lm is None:
            predictor.lm = dspy.settings.lm


def _accepted_options(function: Any, options: "dict[str, Any]") -> "dict[str, Any]":
    """Return the options that `function` accepts; only our own options may be dropped silently."""
    parameters = inspect.signature(function).parameters
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return options
    if unknown := options.keys() - parameters.keys() - {"metric", "valset"}:
        raise DefinitionError(
            f"the optimizer does not take {', '.join(sorted(unknown))}; it takes: "
            f"{', '.join(parameters)}"
        )
    return {key: value for key, value in options.items() if key in parameters}


def evaluate(
    call: Any,
    program: Any,
    args: "dict[str, Any]",
    *,
    converters: Converters,
) -> "dict[str, Any]":
    """Run `program` on every row; a failed row has an error and no score."""
    rows = args["rows"]
    metric, settings = _ParentMetric(call, len(rows)), dict(dspy.settings.config)
    overrides = {
        key: settings[key]
        for key in ("lm", "adapter", "callbacks", "disable_history", "dspex_call", "dspex_models")
    }

    def evaluate_row(row: "dict[str, Any]") -> "dict[str, Any]":
        try:
            (example,) = _examples([row], args["inputs"], converters)
            with dspy.context(**overrides):
                prediction = program(**example.inputs())
            outputs = prediction_of(program, prediction)
            return {"outputs": outputs, "score": metric(example, prediction), "error": None}
        except Exception as error:  # noqa: BLE001  # a failed row is a result
            return {"outputs": None, "score": None, "error": f"{type(error).__name__}: {error}"}

    with ThreadPoolExecutor(args.get("threads", 4)) as threads:
        results = list(threads.map(evaluate_row, rows))
    return {"rows": results}
