"""The trials of one search: written to the journal, reported, and compared with each other."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from dspex.error_text import listing, quantity
from dspex.errors import ConflictError, DefinitionError
from dspex.language.records import Usage
from dspex.language.records.canonical import content_hash
from dspex.learning.optimizers.goal import Goal, Merit
from dspex.learning.optimizers.journal import Entry, Journal
from dspex.learning.optimizers.limits import front
from dspex.learning.optimizers.proposer import Candidate, Trial
from dspex.learning.optimizers.runner import Run
from dspex.telemetry import Event

# measured values from before a restart; everything else is recomputed from replies
TIMES = ("p50", "p95")
_MOST_SHOWN = 3


class Trials:
    """The trials of one search, in order.

    `objectives` are those of the optimizer, if it has its own. `estimates` are figures by trial
    number that take precedence over measured ones.
    """

    def __init__(self, goal: Goal, journal: Journal, objectives: Sequence[str] = ()) -> None:
        """Start without trials."""
        self.all: list[Trial] = []
        self.objectives = tuple(objectives)
        self.estimates: Mapping[int, Mapping[str, float]] = {}
        self._goal = goal
        self._journal = journal
        self._entries: dict[int, Entry] = {}
        self._front: list[Trial] = []

    def restore(self, entry: Entry) -> None:
        """Take a trial entry from an earlier run of the search."""
        self._entries[entry["number"]] = entry

    def create(
        self, number: int, candidate: Candidate, run: Run, *, on_error: float | None
    ) -> Trial:
        """Return the trial of a candidate that has been run.

        Raises:
            ConflictError: in the journal, this trial belongs to another candidate.
        """
        entry = self._entries.get(number)
        if entry is not None and entry["candidate"] != _hash_of(candidate):
            raise ConflictError(
                f"trial {number} in the journal does not match the candidate that is due now"
            )
        report = run.report
        figures: dict[str, float | None] = {**self._goal.figures(report)}
        if entry is not None:
            figures |= {name: entry["figures"].get(name) for name in TIMES}
        return Trial(
            number=number,
            candidate=candidate,
            report=report,
            score=figures[report.metrics[0]] if report.scored else None,
            figures={name: math.nan if value is None else value for name, value in figures.items()},
            calls=run.calls,
            on_error=on_error,
        )

    async def append(self, trial: Trial) -> None:
        """Add a trial, and write it to the journal unless it is there."""
        self.all.append(trial)
        if trial.candidate.is_final and trial.score is not None:
            cost = "usd" if trial.figures.get("usd", math.nan) > 0 else "tokens"
            objectives = (
                self.objectives
                if len(self.objectives) > 1
                else dict.fromkeys((self._goal.objective, f"-{cost}"))
            )
            self._front = front([*self._front, trial], list(objectives))
        if trial.number in self._entries:
            return
        await self._journal.append(
            {
                "kind": "trial",
                "number": trial.number,
                "candidate": _hash_of(trial.candidate),
                "label": trial.candidate.label,
                "score": trial.score,
                "rows": trial.report.scored,
                "failed": trial.report.failed,
                "calls": trial.report.usage.calls,
                "figures": {
                    name: value if math.isfinite(value) else None
                    for name, value in trial.figures.items()
                },
            }
        )

    def progress(self, trial: Trial, spent: Usage) -> Event:
        """Return the progress event after a trial: best so far, front, and what was spent."""
        best = self.best() if self._eligible() else None
        score = "no score" if trial.score is None else f"{trial.score:.3f}"
        message = f"trial {trial.number}: {trial.candidate.label}: {score}"
        if best is not None:
            message += (
                f"; best {best.score:.3f} (trial {best.number}), {len(self._front)} on the front"
            )
        message += f"; {quantity(spent.calls, 'call')}" + (
            "" if spent.cost_usd is None else f", ${spent.cost_usd:.4f}"
        )
        attributes: dict[str, object] = {
            "trial": trial.number,
            "score": trial.score,
            "best": None if best is None else best.score,
            "best_trial": None if best is None else best.number,
            "front": [item.number for item in self._front],
            "calls": sum(
                item.report.usage.calls + item.report.judge_usage.calls for item in self.all
            ),
            "spent_usd": spent.cost_usd,
        }
        return Event(name="progress", message=message, attributes=attributes)

    def best(self) -> Trial:
        """Return the best trial that may win.

        Raises:
            DefinitionError: no candidate could be scored.
        """
        if not (eligible := self._eligible()):
            errors = [row.error for trial in self.all for row in trial.report.rows if row.error]
            because = f"; the first error was: {errors[0]}" if errors else ""
            raise DefinitionError(f"none of {len(self.all)} candidates could be scored{because}")
        return max(eligible, key=self._merit)

    def tie_with(self, best: Trial) -> str:
        """Return which trials are as good as the best one, and why it was chosen; "" if none."""
        merit = self._merit(best)
        equals = [
            trial
            for trial in self._eligible()
            if trial is not best and self._merit(trial).ties_with(merit)
        ]
        if not equals:
            return ""
        numbers = [str(trial.number) for trial in equals[:_MOST_SHOWN]]
        if len(equals) > _MOST_SHOWN:
            numbers.append(f"{len(equals) - _MOST_SHOWN} more")
        others = f"{'trial' if len(equals) == 1 else 'trials'} {listing(numbers)}"
        as_cheap = [trial for trial in equals if self._merit(trial).tokens == merit.tokens]
        reason = "uses fewer tokens"
        if as_cheap:
            is_all = len(as_cheap) == len(equals)
            reason = "came first" if is_all else "uses the fewest tokens and came first"
        return f"trial {best.number} ties with {others}; it {reason}"

    def _merit(self, trial: Trial) -> Merit:
        return self._goal.merit(trial, self.figures(trial))

    def best_score(self) -> float | None:
        """Return the best objective so far, as measured; None without an eligible trial."""
        values = [trial.figures[self._goal.figure] for trial in self._eligible()]
        return max(values, default=None)

    def _eligible(self) -> list[Trial]:
        return [trial for trial in self.all if trial.score is not None and trial.candidate.is_final]

    def figures(self, trial: Trial) -> Mapping[str, float]:
        """Return the figures that a trial is judged by: estimated ones replace measured ones."""
        return {**trial.figures, **self.estimates.get(trial.number, {})}


def _hash_of(candidate: Candidate) -> str:
    rows = None if candidate.rows is None else list(candidate.rows)
    sampling = [candidate.batch, candidate.temperature, candidate.salt]
    return content_hash([_plain(candidate.assignment), sorted(candidate.shown), rows, sampling])


def _plain(value: Any) -> Any:
    from pydantic_core import to_jsonable_python

    return to_jsonable_python(value)
