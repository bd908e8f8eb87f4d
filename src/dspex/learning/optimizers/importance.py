"""The importance of variables: over the trials of a search, and in its winner."""

from collections.abc import Sequence
from statistics import fmean

from dspex.arguments import checks_values
from dspex.errors import VariableError
from dspex.execution.context import RunContext
from dspex.execution.modules import Module, module_of
from dspex.language.programs import Program
from dspex.language.records.canonical import canonical_json
from dspex.learning.evaluation import Comparison, Dataset, aevaluate, compare
from dspex.learning.evaluation.evaluate import Metrics
from dspex.learning.optimizers.proposer import Trial
from dspex.sync import run

BINS = 4


@checks_values
def importance(trials: Sequence[Trial]) -> dict[str, float]:
    """Return each variable's share of the variance of the scores, the largest first.

    The share is eta squared, with numbers cut into quarters, corrected for the number of groups: a
    variable without effect is about 0. Shares overlap if variables were not varied independently.
    """
    scored = [trial for trial in trials if trial.score is not None]
    names = dict.fromkeys(name for trial in scored for name in trial.candidate.assignment)
    shares = {
        name: _share([(_value(trial, name), trial.score or 0.0) for trial in scored])
        for name in names
    }
    return dict(sorted(shares.items(), key=lambda pair: -pair[1]))


def _value(trial: Trial, name: str) -> object:
    return trial.candidate.assignment.get(name)


def _share(pairs: Sequence[tuple[object, float]]) -> float:
    numbers = [
        value
        for value, _ in pairs
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]
    ordered = sorted(numbers)
    cuts = (
        {ordered[len(ordered) * part // BINS] for part in range(1, BINS)}
        if len(set(ordered)) > BINS
        else set()
    )
    groups: dict[str, list[float]] = {}
    for value, score in pairs:
        is_number = cuts and isinstance(value, int | float) and not isinstance(value, bool)
        key = (
            str(sum(value >= cut for cut in cuts))
            if is_number and isinstance(value, int | float)
            else _key(value)
        )
        groups.setdefault(key, []).append(score)
    mean, count = fmean(score for _, score in pairs), len(pairs)
    total = sum((score - mean) ** 2 for _, score in pairs)
    if len(groups) < 2 or not total or count <= len(groups):
        return 0.0
    within = sum((score - fmean(scores)) ** 2 for scores in groups.values() for score in scores)
    noise = within / (count - len(groups))
    return max(0.0, (total - within - (len(groups) - 1) * noise) / (total + noise))


def _key(value: object) -> str:
    from pydantic_core import to_jsonable_python

    return canonical_json(to_jsonable_python(value))


@checks_values
async def aablate(
    program: Module | Program,
    winner: Trial,
    rows: Dataset,
    *,
    metric: Metrics,
    context: RunContext | None = None,
) -> dict[str, Comparison]:
    """Score the winner on `rows` with each of its values reset in turn.

    Returns:
        For each variable, the winner compared with the winner without that value; a positive
        difference means that the value helps. A value that a constraint ties to others is left out.
    """
    module = module_of(program)
    values = dict(winner.candidate.assignment)
    whole = await aevaluate(module.assign(values), rows, metric, context=context)
    comparisons: dict[str, Comparison] = {}
    for name in values:
        try:
            without = module.assign(
                {kept_name: value for kept_name, value in values.items() if kept_name != name}
            )
        except VariableError:
            continue
        comparisons[name] = compare(whole, await aevaluate(without, rows, metric, context=context))
    return comparisons


@checks_values
def ablate(
    program: Module | Program,
    winner: Trial,
    rows: Dataset,
    *,
    metric: Metrics,
    context: RunContext | None = None,
) -> dict[str, Comparison]:
    """Score the winner with each of its values reset in turn; the synchronous twin of `aablate`.

    It takes what `aablate` takes.
    """
    return run(aablate(program, winner, rows, metric=metric, context=context))
