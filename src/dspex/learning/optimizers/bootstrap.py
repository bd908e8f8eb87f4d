"""Demonstrations from successful runs of the program itself."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dspex.argument_values import Count, CountOrZero
from dspex.arguments import checks_names
from dspex.errors import DefinitionError
from dspex.learning.optimizers.labeled_few_shot import demonstration, labelled_slots
from dspex.learning.optimizers.options import ASSIGNMENT, DEMOS, SCORE, OptimizerEntry, whole_number
from dspex.learning.optimizers.proposer import (
    Additions,
    Ask,
    Call,
    Candidate,
    Proposer,
    Result,
    Task,
    Trial,
)


@checks_names
@dataclass(frozen=True, slots=True, kw_only=True)
class BootstrapFewShot:
    """Runs a teacher over the training rows; successful runs become demonstrations.

    The teacher is the program with labelled rows as demonstrations (never the row that it runs on)
    and with the values of `teacher` assigned, such as `{"self.model": "openai/gpt-4o"}`. If fewer
    than `max_labelled` demonstrations result, labelled rows fill the rest. After Khattab et al.,
    "DSPy", 2023.

    Args:
        max_bootstrapped: most demonstrations from the teacher.
        max_labelled: most demonstrations in total.
        threshold: the lowest score that counts as a success; by default every score above 0.
        rounds: passes over rows that the teacher got wrong; later passes use temperature 1.
        teacher: values that only the teacher uses.
    """

    max_bootstrapped: CountOrZero = 4
    max_labelled: CountOrZero = 16
    threshold: float | None = None
    rounds: Count = 1
    teacher: Mapping[str, Any] | None = None

    def start(self, task: Task) -> Proposer:
        """Begin with the training rows in their order."""
        return _SingleWalk(BootstrapWalk(self, task, order=range(len(task.train))))

    def runs(self, task: Task, rows: int) -> int:
        """Return at most how many times the program will run."""
        return self.rounds * len(task.train) + rows

    def additions(self, task: Task) -> Additions:
        """Return the largest number of demonstrations."""
        return Additions(
            demonstrations=min(max(self.max_labelled, self.max_bootstrapped), len(task.train))
        )


ENTRY = OptimizerEntry(
    create=BootstrapFewShot,
    options={
        "max_bootstrapped": DEMOS,
        "max_labelled": DEMOS,
        "threshold": SCORE,
        "rounds": whole_number(1, 100),
        "teacher": ASSIGNMENT,
    },
)


class _SingleWalk:
    def __init__(self, work: "BootstrapWalk") -> None:
        self._work = work
        self._is_over = False

    def ask(self, count: int) -> Sequence[Ask]:
        if candidates := self._work.ask(count):
            return candidates
        if self._is_over:
            return ()
        self._is_over = True
        return [self._work.candidate("bootstrapped demonstrations")]

    def tell(self, results: Sequence[Result]) -> None:
        if not self._is_over:
            self._work.tell(results)


class BootstrapWalk:
    """One pass of a teacher over training rows, until enough of them succeeded.

    `candidate` is the result.
    """

    def __init__(self, recipe: BootstrapFewShot, task: Task, *, order: Sequence[int]) -> None:
        """Take the rows in the order of the walk.

        Raises:
            DefinitionError: the program takes no demonstrations.
            VariableError: a value of `teacher` does not fit the program.
        """
        task.program.space.check(recipe.teacher or {})
        self._recipe = recipe
        self._task = task
        self._slots = demonstration_slots(task)
        self._labelled = _labelled(task) if recipe.max_labelled else {}
        self._queue = [(attempt, index) for attempt in range(recipe.rounds) for index in order]
        self._order = order
        self._demos_by_row: dict[int, Mapping[str, list[dict[str, Any]]]] = {}

    def ask(self, count: int) -> Sequence[Candidate]:
        """Return the next runs of the teacher."""
        candidates: list[Candidate] = []
        while (
            self._queue
            and len(candidates) < count
            and len(self._demos_by_row) < self._recipe.max_bootstrapped
        ):
            attempt, index = self._queue.pop(0)
            if index not in self._demos_by_row:
                candidates.append(self._teacher(attempt, index))
        return candidates

    def _teacher(self, attempt: int, index: int) -> Candidate:
        rows = [row for row in self._draw(self._recipe.max_labelled, seed=0) if row != index]
        demos = {
            slot: [demonstration(self._task, self._task.train[row]) for row in rows]
            for slot in self._labelled
        }
        return Candidate(
            label=f"teacher on row {index}",
            assignment={**demos, **(self._recipe.teacher or {})},
            rows=(index,),
            temperature=1.0 if attempt else None,
            salt=f"round {attempt}" if attempt else "",
            is_final=False,
            is_traced=True,
        )

    def tell(self, results: Sequence[Result]) -> None:
        """Keep the calls of successful runs until there are enough."""
        for trial in results:
            if not isinstance(trial, Trial) or trial.candidate.rows is None or trial.score is None:
                continue
            least = self._recipe.threshold
            is_right = trial.score > 0 if least is None else trial.score >= least
            if is_right and len(self._demos_by_row) < self._recipe.max_bootstrapped:
                self._demos_by_row[trial.candidate.rows[0]] = self._demos_of(trial)

    def _demos_of(self, trial: Trial) -> Mapping[str, list[dict[str, Any]]]:
        """Return the last call of each predictor in a run, by its slot."""
        return last_demos([call for calls in trial.calls for call in calls], self._slots)

    def candidate(self, label: str) -> Candidate:
        """Return the collected demonstrations, filled up with labelled rows."""
        return Candidate(label=label, assignment=self.demos(), shown=self._shown())

    def demos(self) -> dict[str, list[dict[str, Any]]]:
        """Return demonstrations by slot."""
        demos: dict[str, list[dict[str, Any]]] = {slot: [] for slot in self._slots}
        for slot in demos:
            demos[slot] = [
                demo for by_slot in self._demos_by_row.values() for demo in by_slot.get(slot, [])
            ]
        room = self._recipe.max_labelled - len(self._demos_by_row)
        for slot in self._labelled:
            fill = self._fill(room)
            demos[slot] += [demonstration(self._task, self._task.train[index]) for index in fill]
        return demos

    def _fill(self, room: int) -> list[int]:
        rest = [index for index in self._order if index not in self._demos_by_row]
        to_score_on = max(1, len(self._task.train) // 4)
        usable = max(0, min(room, len(rest) - to_score_on))
        return random.Random(0).sample(rest, usable)

    def _shown(self) -> frozenset[int]:
        room = self._recipe.max_labelled - len(self._demos_by_row)
        return frozenset(self._demos_by_row) | (
            frozenset(self._fill(room)) if self._labelled else frozenset()
        )

    def _draw(self, count: int, *, seed: int) -> list[int]:
        every = range(len(self._task.train))
        return random.Random(seed).sample(every, min(count, len(every)))


def last_demos(
    calls: Sequence[Call], slots: Mapping[str, Sequence[str]]
) -> dict[str, list[dict[str, Any]]]:
    """Return the last call of a predictor of each slot as its demonstration."""
    last = {call.path: {**call.inputs, **call.outputs} for call in calls}
    return {
        slot: [next(last[path] for path in paths if path in last)]
        for slot, paths in slots.items()
        if any(path in last for path in paths)
    }


def demonstration_slots(task: Task) -> dict[str, tuple[str, ...]]:
    """Return the predictor paths of every variable that takes demonstrations, by its name.

    Raises:
        DefinitionError: no predictor of the program takes demonstrations.
    """
    slots = {
        variable.name: tuple(path.rpartition(".")[0] for path in variable.paths)
        for variable in task.program.space.values()
        if variable.kind == "examples" and variable.paths
    }
    if not slots:
        raise DefinitionError(f"{task.program.name!r} has no predictor that takes demonstrations")
    return slots


def _labelled(task: Task) -> Mapping[str, str]:
    """Return the slots that take labelled rows; often empty in a program of several steps."""
    try:
        return dict.fromkeys(labelled_slots(task), "")
    except DefinitionError:
        return {}
