"""The inputs of actions on evaluations."""

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramOnDataset:
    """A program and a data set (the newest of its name), each given by id or by name."""

    program_id: UUID | None = None
    program: str | None = None
    dataset_id: UUID | None = None
    dataset: str | None = None
    metrics: list[str] = field(default_factory=list)
    judge: str | None = None
    judge_model: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateEvaluation(ProgramOnDataset):
    """Score the current version of a program on a data set (the newest of its name), as a job.

    `metrics` are names of `known_metrics`; on the machine itself also "module:function" in the code
    root. `judge` is a stored program that scores the answers; it is the last metric, and runs on
    `judge_model` unless it has a model. The first metric is the main one; without metrics it is the
    judge, or else exact_match. `configuration` may hold "concurrency" (8), "limit" (the maximum
    number of rows), "slice_by" (a field of the rows, for the mean of each of its values), "pass_at"
    (a score, for the share of rows that reach it) and "label" (a field in which people have rated
    the answers, for the agreement of the metrics with it), "judge_repeats" (how often the judge
    scores each answer, for its variance), and "parts" (1 to 64: into how many parts the rows are
    divided, which the workers share; by default there are parts of about 500 rows if 2,000 rows or
    more meet two workers or more). "concurrency" is that of each part.
    """

    configuration: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownMetrics:
    """List metric names: the built-in metrics and those registered in the server's settings.

    Only names that begin with `starts_with` are listed.
    """

    starts_with: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricNames:
    """Names of metrics."""

    names: list[str]
