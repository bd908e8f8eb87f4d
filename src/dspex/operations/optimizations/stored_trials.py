"""The stored trials of an optimization, and their front."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from dspex.operations.framework.operations import Operations
from dspex.operations.framework.store import Query
from dspex.operations.optimizations.records import TRIAL, TrialRecord

_PAGE = 500


async def trials_of(operations: Operations, job: UUID) -> list[TrialRecord]:
    """Return the trials of a job in the order of the search, without their assignments."""
    trials: list[TrialRecord] = []
    query = Query(
        where={"optimization_job_id": job},
        limit=_PAGE,
        oldest_first=True,
        without=frozenset({"assignment"}),
    )
    while rows := await operations.list(TRIAL, query):
        trials += rows
        query = replace(query, after=rows[-1].id)
    return trials


def front_of(
    trials: Sequence[TrialRecord], objectives: Sequence[str], *, metrics: Sequence[str]
) -> list[TrialRecord]:
    """Return the trials that no other one beats in all objectives, best in the first one first.

    Raises:
        DefinitionError: there is no objective, or one is not a figure.
    """
    from dspex.learning.optimizers.goal import Goal
    from dspex.learning.optimizers.limits import BUILT_IN, front

    Goal.of(metrics).check_known(objectives)
    unmeasured = dict.fromkeys((*metrics, *BUILT_IN), math.nan)
    points = [
        _Point(row, {**unmeasured, **{n: v for n, v in row.figures.items() if v is not None}})
        for row in trials
        if row.is_final
    ]
    return [point.row for point in front(points, objectives)]


@dataclass(frozen=True, slots=True)
class _Point:
    row: TrialRecord
    figures: Mapping[str, float]

    @property
    def number(self) -> int:
        return self.row.number
