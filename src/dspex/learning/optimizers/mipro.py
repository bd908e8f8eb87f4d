"""Instructions and demonstrations searched together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dspex.errors import DefinitionError
from dspex.language.variables import Choice, Variable
from dspex.learning.optimizers.bootstrap import BootstrapFewShot, Bootstrapping, demonstration_slots
from dspex.learning.optimizers.instructions import Instructions
from dspex.learning.optimizers.pooling import Beliefs
from dspex.learning.optimizers.proposer import Additions, Ask, Candidate, Proposer, Task, Told, Trial
from dspex.learning.optimizers.random_search import RandomSearch
from dspex.learning.optimizers.surrogate import check_installed
from dspex.learning.optimizers.tuner import Tuner, optuna


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoSet:
    """Demonstrations by slot, and the training rows that they show."""

    demos: Mapping[str, Sequence[Mapping[str, Any]]]
    shown: frozenset[int] = field(default_factory=frozenset)


class Ingredients:
    """First the demonstration sets, then the instructions: what a search over both chooses from.

    Set 0 and instruction 0 are those of the program as it is.
    """

    def __init__(self, task: Task, *, sets: RandomSearch, instructions: int) -> None:
        """Take how many of each; `sets.candidates` demonstration sets are made besides those of the program."""
        slots = demonstration_slots(task)
        self._task = task
        self.sets = [DemoSet(demos={slot: task.program.assignment.get(slot, []) for slot in slots})]
        self._walks: list[Bootstrapping] = [sets.walk(task, seed) for seed in range(-2, sets.candidates - 2)]
        self.instructions = Instructions(task, count=instructions)

    def ask(self, count: int) -> Sequence[Ask]:
        """Return what is to be run next; none means that everything is there."""
        while self._walks:
            if asked := self._walks[0].ask(count):
                return asked
            made = self._walks.pop(0).candidate("")
            if made.assignment not in [found.demos for found in self.sets]:
                self.sets.append(DemoSet(demos=made.assignment, shown=made.shown))
        return self.instructions.ask()

    def tell(self, results: Sequence[Told]) -> None:
        """Take note of results."""
        if self._walks:
            self._walks[0].tell(results)
        else:
            self.instructions.tell(results)

    def choices(self) -> dict[str, int]:
        """Return the number of options by name: one choice of set, and one of instruction for each predictor."""
        texts = {name: len(found) for name, found in self.instructions.found.items()}
        return {name: count for name, count in {"demonstration set": len(self.sets), **texts}.items() if count > 1}

    def variables(self) -> list[Variable]:
        """Return the choices as variables: of set by its number, of instruction by its text.

        So conditions and constraints read an instruction as they do in the program.
        """
        space, texts = self._task.program.space, self.instructions.found
        return [
            Choice(*texts.get(name, range(count)), name=name, when=space[name].when if name in space else None)
            for name, count in self.choices().items()
        ]

    def assignment(self, chosen: Mapping[str, int]) -> tuple[dict[str, Any], frozenset[int]]:
        """Return the values of a choice, those of the program left out, and the rows that they show."""
        number = chosen.get("demonstration set", 0)
        values: dict[str, Any] = dict(self.sets[number].demos) if number else {}
        for slot, found in self.instructions.found.items():
            if index := chosen.get(slot, 0):
                values[slot] = found[index]
        return values, self.sets[number].shown


@dataclass(frozen=True, slots=True, kw_only=True)
class MIPROv2:
    """Searches instructions written from the data together with sets of bootstrapped demonstrations.

    Tree-structured Parzen estimators choose on minibatches; every few trials the best so far is scored on all rows.
    What is best is decided by what all trials together let expect, because a mean over one minibatch is mostly luck.
    After Opsahl-Ong et al., "Optimizing Instructions and Demonstrations for Multi-Stage Language Model Programs", 2024.
    Needs Optuna (`dspex[optimize]`).

    Args:
        trials: on minibatches.
        minibatch: rows of one trial.
        full_every: after so many trials, the best is scored on all rows.
        instructions: for each predictor, the current one among them.
        sets: of demonstrations, the program's own not counted.
        bootstrap: how a set is made.
    """

    trials: int = 20
    minibatch: int = 35
    full_every: int = 5
    instructions: int = 6
    sets: int = 6
    bootstrap: BootstrapFewShot = field(default_factory=BootstrapFewShot)

    def start(self, task: Task) -> Proposer:
        """Begin with the demonstration sets.

        Raises:
            DefinitionError: the recipe makes no sense.
            ConfigurationError: Optuna is not installed.
        """
        if min(self.trials, self.minibatch, self.full_every) < 1 or min(self.instructions, self.sets) < 0:
            raise DefinitionError(
                f"trials, minibatch and full_every are at least 1, instructions and sets at least 0, not {self!r}"
            )
        optuna()
        check_installed()
        return _Search(self, task)

    def runs(self, task: Task, rows: int) -> int:
        """Return at most how many times the program will run; a question for an instruction counts as one run."""
        walks = max(0, self.sets - 1) * self.bootstrap.rounds * len(task.train)
        questions = 1 + len(demonstration_slots(task)) * max(0, self.instructions - 1)
        full = -(-self.trials // self.full_every)
        return walks + questions + self.trials * min(self.minibatch, rows) + full * rows

    def adds(self, task: Task) -> Additions:
        """Return how many demonstrations a set has at most, and how many questions are asked."""
        questions = 1 + len(demonstration_slots(task)) * (self.instructions - 1) if self.instructions > 1 else 0
        return Additions(demonstrations=self.bootstrap.adds(task).demonstrations, questions=questions)


class _Search:
    def __init__(self, recipe: MIPROv2, task: Task) -> None:
        self._recipe = recipe
        self._task = task
        sets = RandomSearch(bootstrap=recipe.bootstrap, candidates=recipe.sets)
        self._ingredients = Ingredients(task, sets=sets, instructions=recipe.instructions)
        self._tuner: Tuner | None = None
        self._asked: dict[str, tuple[int, tuple[tuple[str, int], ...]]] = {}
        self._tried: dict[tuple[tuple[str, int], ...], int] = {}
        self._beliefs: Beliefs | None = None
        self._final: dict[int, tuple[tuple[str, int], ...]] = {}
        self._full: set[tuple[tuple[str, int], ...]] = set()
        self._open_full: tuple[tuple[str, int], ...] = ()
        self._metric = ""
        self._done = 0

    def ask(self, count: int) -> Sequence[Ask]:
        if self._tuner is None:
            if asked := self._ingredients.ask(count):
                return asked
            self._tuner = Tuner(self._ingredients.choices(), seed=self._task.seed)
            self._tuner.first(dict.fromkeys(self._ingredients.choices(), 0))
        if self._is_time_for_all_rows():
            return [self._full_candidate()]
        room = min(count, self._recipe.trials - self._done, self._recipe.full_every)
        return [self._minibatch(self._tuner, self._done + n) for n in range(room)]

    def _is_time_for_all_rows(self) -> bool:
        due = (
            -(-self._done // self._recipe.full_every)
            if self._done == self._recipe.trials
            else (self._done // self._recipe.full_every)
        )
        return len(self._full) < due and bool(set(self._tried) - self._full)

    def _minibatch(self, tuner: Tuner, number: int) -> Candidate:
        trial, chosen = tuner.suggest()
        values, shown = self._ingredients.assignment(chosen)
        label = f"minibatch {number}"
        self._asked[label] = (trial, tuple(sorted(chosen.items())))
        batch = (self._recipe.minibatch, number)
        return Candidate(label=label, assignment=values, shown=shown, batch=batch, is_final=False)

    def _full_candidate(self) -> Candidate:
        rest = [key for key in self._tried if key not in self._full]
        expected = self._beliefs.expected(rest) if self._beliefs is not None else [0.0] * len(rest)
        key = rest[max(range(len(rest)), key=lambda place: expected[place])]
        self._full.add(key)
        self._open_full = key
        values, shown = self._ingredients.assignment(dict(key))
        said = ", ".join(f"{name} {index}" for name, index in key) or "as it is"
        return Candidate(label=f"best so far: {said}", assignment=values, shown=shown)

    def tell(self, results: Sequence[Told]) -> None:
        if self._tuner is None:
            self._ingredients.tell(results)
            return
        for trial in results:
            if isinstance(trial, Trial):
                self._learn(self._tuner, trial)

    def _learn(self, tuner: Tuner, trial: Trial) -> None:
        if trial.candidate.is_final:
            self._believe(self._open_full, trial)
            return
        number, key = self._asked.pop(trial.candidate.label)
        self._done += 1
        tuner.learn(number, trial.score)
        if trial.score is not None:
            self._tried[key] = self._tried.get(key, 0) + 1
        self._believe(key, trial)

    def _believe(self, key: tuple[tuple[str, int], ...], trial: Trial) -> None:
        if self._beliefs is None:
            names = [name for name, _ in key]
            self._beliefs = Beliefs(names, trial.report.metrics[0], seed=self._task.seed)
            self._metric = trial.report.metrics[0]
        if trial.candidate.is_final:
            self._final[trial.number] = key
        self._beliefs.add(key, trial)

    def estimates(self, trials: Sequence[Trial]) -> Mapping[int, Mapping[str, float]]:
        """Return what each trial on all rows probably is worth, from all trials together."""
        if self._beliefs is None or not self._final:
            return {}
        as_it_is = tuple(sorted(dict.fromkeys(self._ingredients.choices(), 0).items()))
        numbers = dict(self._final)
        for trial in trials:
            if not trial.candidate.assignment and trial.candidate.is_final:
                numbers[trial.number] = as_it_is
                self._beliefs.add(as_it_is, trial)
        expected = self._beliefs.expected(list(numbers.values()))
        return {number: {self._metric: value} for number, value in zip(numbers, expected, strict=True)}
