"""What the actions on jobs take."""

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateEvaluation:
    """Score the current version of a program on a data set (the newest of its name), as a job.

    `metrics` are names: exact_match, contains, f1, judged, or one of the server's settings (see `known_metrics`);
    on the machine itself also "module:function" in the code root. The first one is the main one, and where none is
    given it is exact_match. `configuration` may hold "concurrency" (8) and "limit" (only so
    many rows).
    """

    program_id: UUID | None = None
    program: str | None = None
    dataset_id: UUID | None = None
    dataset: str | None = None
    metrics: list[str] = field(default_factory=lambda: ["exact_match"])
    configuration: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateOptimization:
    """Search for a better version of a program, as a job; a better one becomes the current version.

    `optimizer` is LabeledFewShot, BootstrapFewShot, RandomSearch, MIPROv2 or Joint. `configuration` may hold
    "concurrency" (8), "rows" (score each candidate on so many), "seed" (0), "holdout" (the share of rows, 0.3, that
    both versions are compared on at the end; 0 for none), "maximize" (a figure such as "f1" or "-usd"; the first
    metric), "subject_to" (limits such as ["exact_match>=0.9", "p95<2s"]), "alpha" (0.05, of the paired test),
    "on_error" (the score of a failed row; the worst), "insist" (take the winner without a significant improvement
    too), "options" for the optimizer, and "compile" for the search of one of dspy's. `budget` may hold "usd", "tokens",
    "calls" and "seconds" (of work, not of waiting in the queue).
    """

    program_id: UUID | None = None
    program: str | None = None
    dataset_id: UUID | None = None
    dataset: str | None = None
    optimizer: str = "LabeledFewShot"
    metrics: list[str] = field(default_factory=lambda: ["exact_match"])
    configuration: dict[str, Any] = field(default_factory=dict)
    budget: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownMetrics:
    """Ask for the names of metrics: the built-in ones, and those that the server's settings register."""

    starts_with: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricNames:
    """Names of metrics."""

    names: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRef:
    """One job by its id."""

    id: UUID
