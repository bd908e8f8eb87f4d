"""The inputs of actions on optimizations."""

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateOptimization:
    """Search for a better version of a program, as a job; a better one becomes the current version.

    `optimizer` is LabeledFewShot, BootstrapFewShot, RandomSearch, MIPROv2 or Joint. `configuration`
    may hold "concurrency" (8), "rows" (how many rows to score each candidate on), "seed" (0),
    "holdout" (0.3, the share of rows for the final comparison of both versions; 0 for none),
    "maximize" (a figure such as "f1" or "-usd"; default: the first metric), "subject_to" (limits
    such as ["exact_match>=0.9", "p95<2s"]), "alpha" (0.05, of the paired test), "on_error" (the
    score of a failed row; default: the worst), "insist" (accept the winner even without a
    significant improvement), "options" for the optimizer, and "compile" for an optimizer of dspy.
    `budget` may hold "usd", "tokens", "calls" and "seconds" (of work; time in the queue does not
    count).
    """

    program_id: UUID | None = None
    program: str | None = None
    dataset_id: UUID | None = None
    dataset: str | None = None
    optimizer: str = "LabeledFewShot"
    metrics: list[str] = field(default_factory=lambda: ["exact_match"])
    configuration: dict[str, Any] = field(default_factory=dict)
    budget: dict[str, Any] = field(default_factory=dict)
