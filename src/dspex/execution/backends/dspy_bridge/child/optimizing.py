"""dspy's optimizers and its programs over many examples, with progress as it happens."""

import inspect
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dspy

from .programs import describe
from .trail import finite, plain

OPTIMIZERS = {
    name: getattr(dspy, name)
    for name in ("LabeledFewShot", "BootstrapFewShot", "BootstrapFewShotWithRandomSearch", "COPRO", "MIPROv2", "SIMBA")
    if hasattr(dspy, name)
}


class _Scoring:
    """The metric, asked of the parent, and the count of what it has said."""

    def __init__(self, call: Any, total: int) -> None:  # noqa: ANN401
        self._call = call
        self._lock = threading.Lock()
        self._count, self._sum, self._examples = 0, 0.0, total

    def __call__(self, example: Any, prediction: Any, trace: Any = None) -> float:  # noqa: ANN401
        row = {"example": plain(dict(example)), "prediction": finite(plain(prediction.toDict()))}
        score = float(self._call.callback("metric", row))
        with self._lock:
            self._count += 1
            self._sum += score
            done, mean = self._count, self._sum / self._count
        self._call.emit("progress", {"scored": done, "last": score, "mean": mean, "examples": self._examples})
        return score if trace is None else bool(score >= 1.0)


def _examples(rows: "list[dict[str, Any]]", inputs: "list[str]") -> "list[Any]":
    return [dspy.Example(**row).with_inputs(*inputs) for row in rows]


def optimize(call: Any, program: Any, args: "dict[str, Any]") -> "dict[str, Any]":  # noqa: ANN401
    """Run one of dspy's optimizers on a copy of `program`; return its predictors and state afterwards."""
    name = args["optimizer"]
    if name not in OPTIMIZERS:
        raise ValueError(f"there is no optimizer {name!r} here; optimizers are: {', '.join(sorted(OPTIMIZERS))}")
    trainset = _examples(args["trainset"], args["inputs"])
    scoring = _Scoring(call, len(trainset))
    options = {"metric": scoring, **args.get("options", {})}
    made = OPTIMIZERS[name](**_fitting(OPTIMIZERS[name].__init__, options))
    given: dict[str, Any] = {"trainset": trainset, **args.get("compile", {})}
    if args.get("valset"):
        given["valset"] = _examples(args["valset"], args["inputs"])
    call.emit("progress", {"state": "begun", "optimizer": name, "examples": len(trainset)})
    best = made.compile(program.deepcopy(), **_fitting(made.compile, given))
    return {"predictors": describe(best), "state": plain(best.dump_state())}


def _fitting(function: Any, options: "dict[str, Any]") -> "dict[str, Any]":  # noqa: ANN401
    """Return the options that `function` takes: dspy's optimizers differ, and only ours may be left out silently."""
    known = inspect.signature(function).parameters
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in known.values()):
        return options
    if unknown := options.keys() - known.keys() - {"metric", "valset"}:
        raise ValueError(f"the optimizer takes no {', '.join(sorted(unknown))}; it takes: {', '.join(known)}")
    return {key: value for key, value in options.items() if key in known}


def evaluate(call: Any, program: Any, args: "dict[str, Any]") -> "dict[str, Any]":  # noqa: ANN401
    """Run `program` on every row; a row that fails has an error and no score."""
    rows = _examples(args["rows"], args["inputs"])
    scoring, settings = _Scoring(call, len(rows)), dict(dspy.settings.config)
    overrides = {
        key: settings[key] for key in ("lm", "adapter", "callbacks", "disable_history", "dspex_call", "dspex_models")
    }

    def one(example: Any) -> "dict[str, Any]":  # noqa: ANN401
        try:
            with dspy.context(**overrides):
                prediction = program(**example.inputs())
            return {"outputs": plain(prediction.toDict()), "score": scoring(example, prediction), "error": None}
        except Exception as error:  # noqa: BLE001  # a failing row is a row
            return {"outputs": None, "score": None, "error": f"{type(error).__name__}: {error}"}

    with ThreadPoolExecutor(args.get("threads", 4)) as threads:
        found = list(threads.map(one, rows))
    return {"rows": found}
