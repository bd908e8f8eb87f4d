"""dspy modules that run another module several times."""

from typing import Any

import dspy

from . import compat
from .values import convert_inputs, converters_for, prediction_of, to_parent

_NEVER = 10**9  # failures: dspy counts them over all calls of a module, which is shared here


class CompletionsError(ValueError):
    """The completions do not fit a comparison."""

    code = "input"


class RowError(ValueError):
    """A row lacks an input."""

    code = "input"


class Reward:
    """Scores a prediction: by one of its outputs, or by the function of the parent."""

    def __init__(self, definition: "dict[str, Any]") -> None:
        self.code: str = definition["code"]
        self._place: str = definition["place"]
        self._field: str | None = definition.get("field")

    def __call__(self, inputs: "dict[str, Any]", prediction: Any) -> float:
        """Return the reward."""
        if self._field is not None:
            return float(prediction[self._field])
        request = {
            "place": self._place,
            "inputs": to_parent(inputs),
            "outputs": prediction_of(None, prediction),
        }
        try:
            return float(compat.setting("dspex_call").callback("reward", request))
        except Exception as error:
            if (trail := compat.setting("dspex_trail")) is not None:
                trail.failure = error  # the modules that call this one hide it
            raise


def best_of_n(definition: "dict[str, Any]", module: Any) -> Any:
    """Return `dspy.BestOfN`; without a threshold it makes all attempts."""
    return dspy.BestOfN(module, **_attempts(definition))


def refine(definition: "dict[str, Any]", module: Any) -> Any:
    """Return `dspy.Refine`, which shows a model the code of the reward."""
    program = dspy.Refine(module, **_attempts(definition))
    program.reward_fn_code = definition["reward"]["code"]
    return program


def _attempts(definition: "dict[str, Any]") -> "dict[str, Any]":
    settings = definition["settings"]
    threshold = settings.get("threshold")
    return {
        "N": settings["n"],
        "threshold": float("inf") if threshold is None else threshold,
        "reward_fn": Reward(definition["reward"]),
        "fail_count": _NEVER,
    }


def _attempt(module: Any, number: int) -> Any:
    """Return a copy of a module whose requests are new ones, in the same way as dspy.BestOfN."""
    lm = module.get_lm() or dspy.settings.lm
    copy = module.deepcopy()
    copy.set_lm(lm.copy(rollout_id=lm.kwargs.get("rollout_id", 0) + number, temperature=1.0))
    return copy


def _at_once(pairs: "list[tuple[Any, dict[str, Any]]]", threads: int) -> "tuple[list[Any], Any]":
    """Run pairs of modules and inputs by `dspy.Parallel`; return predictions and errors."""
    parallel = dspy.Parallel(
        num_threads=threads,
        max_errors=len(pairs) + 1,
        return_failed_examples=True,
        disable_progress_bar=True,
        timeout=0,  # it would repeat the calls of slow rows
    )
    predictions, failed, exceptions = parallel(pairs)
    errors = {id(inputs): error for inputs, error in zip(failed, exceptions, strict=True)}
    return predictions, [errors.get(id(inputs)) for _, inputs in pairs]


def _successes(module: Any, count: int, inputs: "dict[str, Any]") -> "list[Any]":
    """Return the predictions of `count` attempts at once; raise the last error if all failed."""
    pairs = [(_attempt(module, number), dict(inputs)) for number in range(count)]
    predictions, errors = _at_once(pairs, count)
    successes = [prediction for prediction in predictions if prediction is not None]
    if not successes:
        raise next(error for error in reversed(errors) if error is not None)
    return successes


class MajorityVote(dspy.Module):
    """`dspy.majority` over several attempts of a module."""

    def __init__(self, module: Any, n: int, field: str) -> None:
        super().__init__()
        self.module = module
        self.n = n
        self.field = field

    def forward(self, **inputs: Any) -> Any:
        """Run the attempts at once and vote."""
        votes = _successes(self.module, self.n, inputs)
        winner = dspy.majority(votes, field=self.field)[self.field]
        return next(vote for vote in votes if vote[self.field] == winner)


class DraftComparison(dspy.MultiChainComparison):
    """`dspy.MultiChainComparison`, with attempts of `dspy.ChainOfThought` unless it gets some."""

    def __init__(self, signature: Any, n: int) -> None:
        super().__init__(signature, M=n)
        self.draft = dspy.ChainOfThought(signature)

    def forward(self, completions: Any = None, **inputs: Any) -> Any:
        """Compare the completions, or those of as many attempts."""
        if completions is None:
            drafts = _successes(self.draft, self.M, inputs)
            completions = [drafts[number % len(drafts)] for number in range(self.M)]
        self._check(completions)
        return super().forward(completions, **inputs)

    def _check(self, completions: Any) -> None:
        if len(completions) != self.M:
            raise CompletionsError(
                f"completions: expected {self.M} completions, not {len(completions)}"
            )
        for number, completion in enumerate(completions, 1):
            if completion.get("rationale", completion.get("reasoning")) is None or (
                self.last_key not in completion
            ):
                raise CompletionsError(
                    f"completions: expected `reasoning` and {self.last_key!r} in completion "
                    f"{number}"
                )


class Rows(dspy.Module):
    """`dspy.Parallel` of one module over rows of inputs."""

    def __init__(self, module: Any, concurrency: int, required: "list[str]") -> None:
        super().__init__()
        self.module = module
        self.concurrency = concurrency
        self.required = required

    def forward(self, rows: "list[Any]") -> Any:
        """Run all rows; a row that fails has None in `results` and a text in `errors`."""
        converters = converters_for(self.module, [])

        def call(row: Any) -> Any:
            if not isinstance(row, dict):
                raise RowError(f"expected the inputs as an object, got {type(row).__name__}")
            if missing := [name for name in self.required if name not in row]:
                raise RowError(f"the row lacks {', '.join(missing)}")
            return self.module(**convert_inputs(converters, row))

        pairs = [(call, {"row": row}) for row in rows]
        results, errors = _at_once(pairs, self.concurrency)
        return dspy.Prediction(
            results=[None if result is None else dict(result.items()) for result in results],
            errors=[None if error is None else f"{error}" for error in errors],
        )
