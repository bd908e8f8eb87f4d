"""The inputs of actions on optimizations."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from dspex.operations.evaluations.inputs import ProgramOnDataset

_ENOUGH: Final = 10  # rows from which on some are held out
_HOLDOUT: Final = 0.3


def held_out_share(rows: int, settings: Mapping[str, Any]) -> float:
    """Return the share of the rows that a search holds out."""
    share: float = settings.get("holdout", _HOLDOUT)
    return share if rows >= _ENOUGH else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateOptimization(ProgramOnDataset):
    """Search for a better version of a program, as a job; a better one becomes the current version.

    `optimizer` is a name of `known_optimizers`. `metrics` are names of `known_metrics`. `judge` is
    a stored program that scores the answers, on `judge_model` unless it has a model. See
    `create_evaluation` for both.
    `configuration` may hold "concurrency" (8), "rows" (how many rows to score each candidate on),
    "seed" (0), "holdout" (0.3, the share of rows for the final comparison of both versions; 0 for
    none), "maximize" (a figure such as "f1" or "-usd"; default: the first metric), "subject_to"
    (limits such as ["exact_match>=0.9", "p95<2s"]), "alpha" (0.05, of the paired test), "on_error"
    (the score of a failed row; default: the worst), "insist" (accept the winner even without a
    significant improvement), "race" (stop a candidate as soon as it cannot win any more), "ablate"
    (compare the winner with itself without each of its values), "options" for the optimizer, and
    "compile" for an optimizer of dspy.
    `variables` and `constraints` are searched beside those of the program, and replace variables of
    the same places; see `create_program`. `budget` may hold "usd", "tokens", "calls" and "seconds"
    (of work; time in the queue does not count).
    """

    optimizer: str = "LabeledFewShot"
    variables: list[Any] | None = None
    constraints: list[Any] | None = None
    configuration: dict[str, Any] = field(default_factory=dict)
    budget: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PromoteTrial:
    """Make a trial the current version of its program if it is better on rows that it did not see.

    These are by default those that its search held out, or else the rows of a data set (the newest
    of its name) without those of the search.
    """

    trial_id: UUID
    dataset_id: UUID | None = None
    dataset: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontOf:
    """Ask for the front of a completed optimization in some of the figures of its trials.

    `objectives` are such as "exact_match" and "-usd"; a leading minus means that less is better.
    """

    id: UUID
    objectives: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizationFront:
    """The trials that no other one beats in all `objectives`, the best in the first one first.

    Each has id, number, label, score, rows and figures. Trials that may not win are left out, and
    so are those without one of the objectives.
    """

    objectives: list[str]
    trials: list[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownOptimizers:
    """List the optimizers: what they try, and the options that callers may set.

    Only names that begin with `starts_with` are listed.
    """

    starts_with: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerList:
    """Optimizers: objects with name, summary, options, extra and runs_on_dspy.

    `options` has the accepted values in words, by name; `extra` is the extra of the package that
    must be installed.
    """

    optimizers: list[Any]
