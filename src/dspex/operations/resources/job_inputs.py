"""The inputs of actions on jobs."""

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateEvaluation:
    """Score the current version of a program on a data set (the newest of its name), as a job.

    `metrics` are names: exact_match, contains, f1, judged, or a metric of the server's settings
    (see `known_metrics`); on the machine itself also "module:function" in the code root. The first
    metric is the main one; the default is exact_match. `configuration` may hold "concurrency" (8)
    and "limit" (the maximum number of rows).
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


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownMetrics:
    """List metric names: the built-in metrics and those registered in the server's settings."""

    starts_with: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricNames:
    """Names of metrics."""

    names: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRef:
    """One job by its id."""

    id: UUID
