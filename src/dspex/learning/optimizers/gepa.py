"""Reflective evolution over all variables of a program."""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any

from dspex.argument_values import Count, CountOrZero
from dspex.arguments import checks_names
from dspex.execution.modules import Predict
from dspex.language.signatures import Signature
from dspex.language.variables.sampling import value_at
from dspex.learning.optimizers.bootstrap import last_demos
from dspex.learning.optimizers.current_values import current_values
from dspex.learning.optimizers.instructions import instruction_variables
from dspex.learning.optimizers.labels import short_name, value_text
from dspex.learning.optimizers.options import DEMOS, SIZE, TRIALS, OptimizerEntry
from dspex.learning.optimizers.proposer import (
    Additions,
    Ask,
    Candidate,
    Proposer,
    Result,
    SearchQuestion,
    SearchReply,
    Task,
    Trial,
)
from dspex.learning.optimizers.reflection import changeable_variables, feedback, row_scores

_MERGE_EVERY = 4
_REFLECT = Signature(
    "step, current_instruction, feedback -> instruction",
    "A language model carries out one step of a program by an instruction. Read its answers, the "
    "expected ones and their scores, find out what it lacks, and write a better instruction for "
    "the step. Keep what works. State rules and facts that hold beyond these rows.",
)


@checks_names
@dataclass(frozen=True, slots=True, kw_only=True)
class GEPA:
    """Changes one variable at a time, after reflection on a few rows.

    Each proposal starts from a program that is the best on some row, the more often the more rows.
    It runs on a few training rows; then one variable changes: a model that reads answers, scores
    and reasons of judges rewrites a text, a successful run becomes a demonstration, and a number,
    choice or module is drawn anew. Every fourth proposal merges two programs. What does better on
    the few rows is scored on all rows. After Agrawal et al., "GEPA: Reflective Prompt Evolution Can
    Outperform Reinforcement Learning", 2025, which changes texts alone.

    Args:
        proposals: the number of changes that are tried.
        minibatch: the number of rows for reflection.
        demonstrations: the most demonstrations in a predictor; 0 adds none.
    """

    proposals: Count = 24
    minibatch: Count = 4
    demonstrations: CountOrZero = 4

    def start(self, task: Task) -> Proposer:
        """Begin with the unchanged program.

        Raises:
            DefinitionError: nothing in the program can vary.
        """
        return _Evolution(self, task)

    def runs(self, task: Task, rows: int) -> int:
        """Return the most program runs; a reflection counts as one."""
        return rows + self.proposals * (2 * self.minibatch + 1 + rows)

    def additions(self, task: Task) -> Additions:
        """Return the most demonstrations, and one reflection for each proposal."""
        return Additions(demonstrations=self.demonstrations, questions=self.proposals)


ENTRY = OptimizerEntry(
    create=GEPA, options={"proposals": TRIALS, "minibatch": SIZE, "demonstrations": DEMOS}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Member:
    """A program of the pool: its values, the rows that it shows, and its score on each row."""

    assignment: Mapping[str, Any] = field(default_factory=dict)
    shown: frozenset[int] = frozenset()
    scores: Mapping[str, float] = field(default_factory=dict)
    label: str = "the program as it is"

    @property
    def mean(self) -> float:
        """The mean score."""
        return fmean(self.scores.values()) if self.scores else -math.inf


class _Evolution:
    """Goes through the stages of each proposal: parent on few rows, reflection, child, all rows."""

    def __init__(self, recipe: GEPA, task: Task) -> None:
        self._recipe = recipe
        self._task = task
        self._rng = random.Random(f"{task.seed}/gepa")
        self._signatures = dict(instruction_variables(task))
        self._names = changeable_variables(task, demonstrations=recipe.demonstrations)
        self._values = current_values(task.program)
        self._pool: list[_Member] = []
        self._count = self._turn = 0
        self._parent = self._child = _Member()
        self._rows: tuple[int, ...] = ()
        self._trial: Trial | None = None
        self._variable = ""
        self._next: Ask | None = Candidate(
            label="the program as it is, row by row", assignment={}, is_final=False
        )

    def ask(self, count: int) -> Sequence[Ask]:
        if self._next is None and self._count < self._recipe.proposals:
            self._next = self._begin()
        return () if self._next is None else [self._next]

    def tell(self, results: Sequence[Result]) -> None:
        self._next = None
        for result in results:
            if isinstance(result, SearchReply):
                text = str((result.outputs or {}).get("instruction", "")).strip()
                if text:
                    self._next = self._try({self._variable: text}, what="reflection")
            elif not self._pool or result.candidate.is_final:
                self._add(result)
            elif self._trial is None:
                self._next = self._change(result)
            elif self._is_better(result):
                child = self._child
                self._next = Candidate(
                    label=child.label, assignment=child.assignment, shown=child.shown
                )

    def _begin(self) -> Candidate | None:
        """Return the run of the next parent on a few rows that it does not show."""
        self._parent, self._trial = self._choose(), None
        self._variable = self._names[self._turn % len(self._names)]
        self._count += 1
        rows = [row for row in range(len(self._task.train)) if row not in self._parent.shown]
        self._rows = tuple(self._rng.sample(rows, min(self._recipe.minibatch, len(rows))))
        if not self._rows:
            return None
        return Candidate(
            label=f"{self._parent.label}, on {len(self._rows)} rows",
            assignment=self._parent.assignment,
            shown=self._parent.shown,
            rows=self._rows,
            is_final=False,
            is_traced=True,
        )

    def _choose(self) -> _Member:
        """Return a member that is the best on some row, more often the more rows.

        Members without a row on which no better one is as good are left out.
        """
        holders: dict[str, set[int]] = {}
        for key in {key for member in self._pool for key in member.scores}:
            scores = [member.scores.get(key, -math.inf) for member in self._pool]
            holders[key] = {n for n, score in enumerate(scores) if score == max(scores)}
        members = set(range(len(self._pool)))
        for number in sorted(members, key=lambda number: self._pool[number].mean):
            rows = [rivals & members for rivals in holders.values() if number in rivals]
            if len(members) > 1 and all(len(rivals) > 1 for rivals in rows):
                members.remove(number)
        wins = [sum(number in rivals for rivals in holders.values()) for number in sorted(members)]
        weights = wins if any(wins) else None
        return self._pool[self._rng.choices(sorted(members), weights=weights, k=1)[0]]

    def _change(self, trial: Trial) -> Ask | None:
        """Return what changes one variable of the parent, given its run on a few rows."""
        self._trial = trial
        if self._count % _MERGE_EVERY == 0 and (merged := self._merge()) is not None:
            return merged
        self._turn += 1
        variable = self._task.program.space[self._variable]
        if self._variable in self._signatures:
            return self._question(trial) if self._has_faults(trial) else None
        if variable.kind == "examples":
            return self._demonstrate(trial)
        value = value_at(variable, self._rng.random())
        return self._try({self._variable: value}, what=value_text(value))

    def _has_faults(self, trial: Trial) -> bool:
        """Whether a row failed, or scored less than 1 or than the best row that is known."""
        best = max([1.0, *(score for member in self._pool for score in member.scores.values())])
        return any(row.score is None or row.score < best for row in trial.report.rows)

    def _merge(self) -> Ask | None:
        partner = self._choose()
        names = sorted({*self._parent.assignment, *partner.assignment})
        values = {
            name: source.assignment[name]
            for name in names
            if name in (source := self._rng.choice((self._parent, partner))).assignment
        }
        if any(values == member.assignment for member in self._pool):
            return None
        shown = self._parent.shown | partner.shown
        return self._child_of(values, shown, label=f"{self._parent.label} and {partner.label}")

    def _question(self, trial: Trial) -> SearchQuestion:
        current = self._parent.assignment.get(self._variable, self._values.get(self._variable))
        signature = self._signatures[self._variable]
        inputs = {
            "step": f"{signature}; it belongs to {self._task.program.signature}",
            "current_instruction": str(current or signature.instructions),
            "feedback": "\n".join(feedback(row) for row in trial.report.rows),
        }
        module = Predict(_REFLECT, temperature=1.0)
        return SearchQuestion(module=module, inputs=inputs, salt=f"proposal {self._count}")

    def _demonstrate(self, trial: Trial) -> Ask | None:
        """Return the parent with its best run as a further demonstration."""
        scores = row_scores(trial)
        if not scores or max(scores.values()) <= 0:
            return None
        best = max(scores, key=lambda place: scores[place])
        paths = tuple(
            path.rpartition(".")[0] for path in self._task.program.space[self._variable].paths
        )
        demos = last_demos(trial.calls[best], {self._variable: paths}).get(self._variable, [])
        if not demos:
            return None
        old = self._parent.assignment.get(self._variable, self._values.get(self._variable)) or ()
        values = [*old, *demos][-self._recipe.demonstrations :]
        return self._try({self._variable: values}, what="a demonstration", row=self._rows[best])

    def _try(self, change: Mapping[str, Any], *, what: str, row: int | None = None) -> Ask | None:
        values = {**self._parent.assignment, **change}
        active = self._task.program.space.active(values)
        values = {name: value for name, value in values.items() if name in active}
        shown = self._parent.shown | (frozenset() if row is None else {row})
        label = f"{self._count}: {short_name(self._variable)} by {what}"
        return self._child_of(values, shown, label=label)

    def _child_of(
        self, values: Mapping[str, Any], shown: frozenset[int], *, label: str
    ) -> Candidate | None:
        self._child = _Member(assignment=values, shown=shown, label=label)
        rows = tuple(row for row in self._rows if row not in shown)
        if not rows:
            return None
        return Candidate(
            label=f"{label}, on {len(rows)} rows",
            assignment=values,
            shown=shown,
            rows=rows,
            is_final=False,
        )

    def _is_better(self, trial: Trial) -> bool:
        """Whether the child does better than its parent on the rows of both.

        A child that shows a new row may do as well, if the parent made no mistake.
        """
        if self._trial is None:
            return False
        before, after = _by_row(self._trial), _by_row(trial)
        keys = [repr(row.example) for row in trial.report.rows]
        gain = sum(after.get(key, 0.0) - before.get(key, 0.0) for key in keys)
        is_new = self._child.shown != self._parent.shown
        return gain > 0 or (gain == 0 and is_new and not self._has_faults(self._trial))

    def _add(self, trial: Trial) -> None:
        member = self._child if self._pool else _Member()
        self._pool.append(replace(member, scores=_by_row(trial)))


def _by_row(trial: Trial) -> dict[str, float]:
    """Return the first metric of each row; a failed row has none."""
    rows = trial.report.rows
    return {repr(rows[place].example): score for place, score in row_scores(trial).items()}
