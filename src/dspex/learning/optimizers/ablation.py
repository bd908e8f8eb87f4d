"""What each value of a winner is worth, measured within the budget of its search."""

from dataclasses import replace

from dspex.errors import DefinitionError
from dspex.learning.evaluation import Comparison, Dataset, Report, compare
from dspex.learning.optimizers.proposer import Trial
from dspex.learning.optimizers.reply_store import ReplyStore
from dspex.learning.optimizers.runner import Runner


async def ablate_winner(
    best: Trial,
    rows: Dataset,
    *,
    runner: Runner,
    replies: ReplyStore,
    whole: Report | None,
    alpha: float,
) -> tuple[dict[str, Comparison], str]:
    """Compare the winner with itself without each of its values, on `rows`.

    `whole` is the report of the winner there, if there is one. As many comparisons share `alpha`. A
    value that a constraint ties to others is left out. Returns the comparisons by variable, and
    why some are missing, or an empty text.
    """
    values = best.candidate.assignment
    comparisons: dict[str, Comparison] = {}
    if values and whole is None:
        whole = await replies.in_time(runner.evaluate(best.candidate, rows))
    for number, name in enumerate(values):
        problem = f"the search ended after the ablation of {number} of {len(values)} values"
        if whole is None or replies.stop_error is not None:
            return comparisons, problem
        remaining = {each: value for each, value in values.items() if each != name}
        candidate = replace(best.candidate, assignment=remaining)
        try:
            report = await replies.in_time(runner.evaluate(candidate, rows))
            if report is None or replies.stop_error is not None:
                return comparisons, problem
            comparisons[name] = compare(whole, report, alpha=alpha / len(values))
        except DefinitionError:  # a constraint refuses the rest, or no row is scored in both
            continue
    return comparisons, ""
