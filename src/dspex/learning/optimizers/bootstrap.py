"""Demonstrations made by running the program itself and keeping what went well."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dspex.errors import DefinitionError
from dspex.learning.optimizers.labeled_few_shot import demonstration, labelled_slots
from dspex.learning.optimizers.proposer import Additions, Ask, Candidate, Proposer, Task, Told, Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class BootstrapFewShot:
    """Runs a teacher over the training rows in order; what it got right becomes demonstrations for every predictor.

    The teacher is the program with labelled rows as demonstrations, never the row that it is run on, and with
    `teacher` assigned on top (`{"self.model": "openai/gpt-4o"}`, say). Where fewer than `max_labelled` demonstrations
    came of it, labelled rows fill up. After Khattab et al., "DSPy", 2023.

    Args:
        max_bootstrapped: demonstrations made by the teacher.
        max_labelled: demonstrations in all.
        threshold: the least score that counts as right; without it, every score above 0 does.
        rounds: passes over rows that the teacher got wrong; from the second on it answers at temperature 1.
        teacher: values that only the teacher has.
    """

    max_bootstrapped: int = 4
    max_labelled: int = 16
    threshold: float | None = None
    rounds: int = 1
    teacher: Mapping[str, Any] | None = None

    def start(self, task: Task) -> Proposer:
        """Begin with the training rows in their order."""
        return _One(Bootstrapping(self, task, order=range(len(task.train))))

    def runs(self, task: Task, rows: int) -> int:
        """Return at most how many times the program will run."""
        return self.rounds * len(task.train) + rows

    def adds(self, task: Task) -> Additions:
        """Return how many demonstrations there are at most."""
        return Additions(demonstrations=min(max(self.max_labelled, self.max_bootstrapped), len(task.train)))


class _One:
    def __init__(self, work: "Bootstrapping") -> None:
        self._work = work
        self._is_over = False

    def ask(self, count: int) -> Sequence[Ask]:
        if asked := self._work.ask(count):
            return asked
        if self._is_over:
            return ()
        self._is_over = True
        return [self._work.candidate("bootstrapped demonstrations")]

    def tell(self, results: Sequence[Told]) -> None:
        if not self._is_over:
            self._work.tell(results)


class Bootstrapping:
    """One walk of a teacher over training rows. Asks until enough rows went well; `candidate` is what came of it."""

    def __init__(self, recipe: BootstrapFewShot, task: Task, *, order: Sequence[int]) -> None:
        """Take the rows in the order of the walk.

        Raises:
            DefinitionError: the recipe makes no sense, or the program has no place for demonstrations.
            VariableError: the teacher has a value that the program does not take.
        """
        if min(recipe.max_bootstrapped, recipe.max_labelled, recipe.rounds - 1) < 0:
            raise DefinitionError(
                f"max_bootstrapped and max_labelled are at least 0 and rounds at least 1, not {recipe!r}"
            )
        task.program.space.check(recipe.teacher or {})
        self._recipe = recipe
        self._task = task
        self._slots = demonstration_slots(task)
        self._labelled = _labelled(task) if recipe.max_labelled else {}
        self._queue = [(attempt, index) for attempt in range(recipe.rounds) for index in order]
        self._order = order
        self._made: dict[int, Mapping[str, list[dict[str, Any]]]] = {}

    def ask(self, count: int) -> Sequence[Candidate]:
        """Return the next runs of the teacher."""
        asked: list[Candidate] = []
        while self._queue and len(asked) < count and len(self._made) < self._recipe.max_bootstrapped:
            attempt, index = self._queue.pop(0)
            if index not in self._made:
                asked.append(self._teacher(attempt, index))
        return asked

    def _teacher(self, attempt: int, index: int) -> Candidate:
        chosen = [other for other in self._draw(self._recipe.max_labelled, seed=0) if other != index]
        demos = {
            slot: [demonstration(self._task, self._task.train[other]) for other in chosen] for slot in self._labelled
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

    def tell(self, results: Sequence[Told]) -> None:
        """Keep what went well, as far as it is needed."""
        for trial in results:
            if not isinstance(trial, Trial) or trial.candidate.rows is None or trial.score is None:
                continue
            least = self._recipe.threshold
            is_right = trial.score > 0 if least is None else trial.score >= least
            if is_right and len(self._made) < self._recipe.max_bootstrapped:
                self._made[trial.candidate.rows[0]] = self._demos_of(trial)

    def _demos_of(self, trial: Trial) -> Mapping[str, list[dict[str, Any]]]:
        """Return the calls of a run by slot; of several calls of one predictor the last."""
        last = {call.path: {**call.inputs, **call.outputs} for calls in trial.calls for call in calls}
        return {
            slot: [next(last[path] for path in paths if path in last)]
            for slot, paths in self._slots.items()
            if any(path in last for path in paths)
        }

    def candidate(self, label: str) -> Candidate:
        """Return the demonstrations that came of the walk, filled up with labelled rows."""
        return Candidate(label=label, assignment=self.demos(), shown=self._shown())

    def demos(self) -> dict[str, list[dict[str, Any]]]:
        """Return demonstrations by slot."""
        made: dict[str, list[dict[str, Any]]] = {slot: [] for slot in self._slots}
        for slot in made:
            made[slot] = [demo for found in self._made.values() for demo in found.get(slot, [])]
        room = self._recipe.max_labelled - len(self._made)
        for slot in self._labelled:
            fill = self._fill(room)
            made[slot] += [demonstration(self._task, self._task.train[index]) for index in fill]
        return made

    def _fill(self, room: int) -> list[int]:
        rest = [index for index in self._order if index not in self._made]
        usable = max(0, min(room, len(rest) - max(1, len(self._task.train) // 4)))  # rows to score on have to remain
        return random.Random(0).sample(rest, usable)  # noqa: S311

    def _shown(self) -> frozenset[int]:
        room = self._recipe.max_labelled - len(self._made)
        return frozenset(self._made) | (frozenset(self._fill(room)) if self._labelled else frozenset())

    def _draw(self, count: int, *, seed: int) -> list[int]:
        every = range(len(self._task.train))
        return random.Random(seed).sample(every, min(count, len(every)))  # noqa: S311


def demonstration_slots(task: Task) -> dict[str, tuple[str, ...]]:
    """Return, for every variable that takes demonstrations, the paths of the predictors that it is bound to.

    Raises:
        DefinitionError: the program has none.
    """
    found = {
        variable.name: tuple(path.rpartition(".")[0] for path in variable.paths)
        for variable in task.program.space.values()
        if variable.kind == "examples" and variable.paths
    }
    if not found:
        raise DefinitionError(f"{task.program.name!r} has no predictor that takes demonstrations")
    return found


def _labelled(task: Task) -> Mapping[str, str]:
    """Return the slots that take labelled rows as they are; in a program of several steps often none."""
    try:
        return dict.fromkeys(labelled_slots(task), "")
    except DefinitionError:
        return {}
