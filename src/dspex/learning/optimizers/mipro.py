"""Instructions and demonstrations searched together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dspex.argument_values import Count, CountOrZero
from dspex.arguments import checks_names
from dspex.language.variables import Choice, Variable
from dspex.learning.optimizers.bootstrap import BootstrapFewShot, BootstrapWalk, demonstration_slots
from dspex.learning.optimizers.instructions import Instructions
from dspex.learning.optimizers.labels import label_of
from dspex.learning.optimizers.options import ROWS, SIZE, TRIALS, OptimizerEntry, whole_number
from dspex.learning.optimizers.pooled_scores import OptionScores
from dspex.learning.optimizers.proposer import (
    Additions,
    Ask,
    Candidate,
    Proposer,
    Result,
    Task,
    Trial,
)
from dspex.learning.optimizers.random_search import RandomSearch
from dspex.learning.optimizers.surrogate import check_installed
from dspex.learning.optimizers.tuner import Tuner, optuna


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoSet:
    """Demonstrations by slot, and the training rows that they show."""

    demos: Mapping[str, Sequence[Mapping[str, Any]]]
    shown: frozenset[int] = field(default_factory=frozenset)


class PromptOptions:
    """The demonstration sets, then the instructions, that a search over both chooses from.

    Set 0 and instruction 0 are those of the unchanged program.
    """

    def __init__(self, task: Task, *, sets: RandomSearch, instructions: int) -> None:
        """Take the number of each; `sets.candidates` sets are created besides the program's own."""
        slots = demonstration_slots(task)
        self._task = task
        self.sets = [DemoSet(demos={slot: task.program.assignment.get(slot, []) for slot in slots})]
        self._walks: list[BootstrapWalk] = [
            sets.walk(task, seed) for seed in range(-2, sets.candidates - 2)
        ]
        self.instructions = Instructions(task, count=instructions)

    def ask(self, count: int) -> Sequence[Ask]:
        """Return what to run next; an empty sequence means that all options are complete."""
        while self._walks:
            if candidates := self._walks[0].ask(count):
                return candidates
            candidate = self._walks.pop(0).candidate("")
            if candidate.assignment not in [demo_set.demos for demo_set in self.sets]:
                self.sets.append(DemoSet(demos=candidate.assignment, shown=candidate.shown))
        return self.instructions.ask()

    def tell(self, results: Sequence[Result]) -> None:
        """Record results."""
        if self._walks:
            self._walks[0].tell(results)
        else:
            self.instructions.tell(results)

    def choices(self) -> dict[str, int]:
        """Return the number of options by name: demonstration sets and instructions."""
        texts = {name: len(options) for name, options in self.instructions.found.items()}
        return {
            name: count
            for name, count in {"demonstration set": len(self.sets), **texts}.items()
            if count > 1
        }

    def variables(self) -> list[Variable]:
        """Return the choices as variables: sets by number, instructions by text.

        Conditions and constraints thus see an instruction as they do in the program.
        """
        space, texts = self._task.program.space, self.instructions.found
        return [
            Choice(
                *texts.get(name, range(count)),
                name=name,
                when=space[name].when if name in space else None,
            )
            for name, count in self.choices().items()
        ]

    def assignment(self, indexes: Mapping[str, int]) -> tuple[dict[str, Any], frozenset[int]]:
        """Return the values of a choice without the program's own, and the rows that they show."""
        number = indexes.get("demonstration set", 0)
        values: dict[str, Any] = dict(self.sets[number].demos) if number else {}
        for slot, texts in self.instructions.found.items():
            if index := indexes.get(slot, 0):
                values[slot] = texts[index]
        return values, self.sets[number].shown


@checks_names
@dataclass(frozen=True, slots=True, kw_only=True)
class MIPROv2:
    """Searches instructions written from the data together with bootstrapped demonstrations.

    Tree-structured Parzen estimators choose on minibatches; every few trials the best so far is
    scored on all rows. The best is chosen by its expected score given all trials, because the mean
    of one minibatch is mostly luck. After Opsahl-Ong et al., "Optimizing Instructions and
    Demonstrations for Multi-Stage Language Model Programs", 2024. Needs Optuna (`dspex[optimize]`).

    Args:
        trials: on minibatches.
        minibatch: rows of one trial.
        full_every: after this many trials, the best is scored on all rows.
        instructions: per predictor, including the current one.
        sets: of demonstrations, besides the program's own.
        bootstrap: how a set is created.
    """

    trials: Count = 20
    minibatch: Count = 35
    full_every: Count = 5
    instructions: CountOrZero = 6
    sets: CountOrZero = 6
    bootstrap: BootstrapFewShot = field(default_factory=BootstrapFewShot)

    def start(self, task: Task) -> Proposer:
        """Begin with the demonstration sets.

        Raises:
            DefinitionError: a number is out of range.
            ConfigurationError: Optuna is not installed.
        """
        optuna()
        check_installed()
        return _Search(self, task)

    def runs(self, task: Task, rows: int) -> int:
        """Return the most program runs; a question for an instruction counts as one."""
        walks = max(0, self.sets - 1) * self.bootstrap.rounds * len(task.train)
        questions = 1 + len(demonstration_slots(task)) * max(0, self.instructions - 1)
        full = -(-self.trials // self.full_every)
        return walks + questions + self.trials * min(self.minibatch, rows) + full * rows

    def additions(self, task: Task) -> Additions:
        """Return the largest number of demonstrations in a set, and the number of questions."""
        questions = (
            1 + len(demonstration_slots(task)) * (self.instructions - 1)
            if self.instructions > 1
            else 0
        )
        return Additions(
            demonstrations=self.bootstrap.additions(task).demonstrations, questions=questions
        )


ENTRY = OptimizerEntry(
    create=MIPROv2,
    extra="optimize",
    options={
        "trials": TRIALS,
        "minibatch": ROWS,
        "full_every": SIZE,
        "instructions": whole_number(0, 100),
        "sets": whole_number(0, 100),
    },
)


class _Search:
    def __init__(self, recipe: MIPROv2, task: Task) -> None:
        self._recipe = recipe
        self._task = task
        sets = RandomSearch(bootstrap=recipe.bootstrap, candidates=recipe.sets)
        self._ingredients = PromptOptions(task, sets=sets, instructions=recipe.instructions)
        self._tuner: Tuner | None = None
        self._pending: dict[str, tuple[int, tuple[tuple[str, int], ...]]] = {}
        self._counts: dict[tuple[tuple[str, int], ...], int] = {}
        self._scores: OptionScores | None = None
        self._final: dict[int, tuple[tuple[str, int], ...]] = {}
        self._full: set[tuple[tuple[str, int], ...]] = set()
        self._open_full: tuple[tuple[str, int], ...] = ()
        self._metric = ""
        self._completed = 0

    def ask(self, count: int) -> Sequence[Ask]:
        if self._tuner is None:
            if asks := self._ingredients.ask(count):
                return asks
            self._tuner = Tuner(self._ingredients.choices(), seed=self._task.seed)
            self._tuner.first(dict.fromkeys(self._ingredients.choices(), 0))
        if self._is_time_for_all_rows():
            return [self._full_candidate()]
        room = min(count, self._recipe.trials - self._completed, self._recipe.full_every)
        return [self._minibatch(self._tuner, self._completed + n) for n in range(room)]

    def _is_time_for_all_rows(self) -> bool:
        due = (
            -(-self._completed // self._recipe.full_every)
            if self._completed == self._recipe.trials
            else (self._completed // self._recipe.full_every)
        )
        return len(self._full) < due and bool(set(self._counts) - self._full)

    def _minibatch(self, tuner: Tuner, number: int) -> Candidate:
        trial, indexes = tuner.suggest()
        values, demo_rows = self._ingredients.assignment(indexes)
        label = f"minibatch {number}"
        self._pending[label] = (trial, tuple(sorted(indexes.items())))
        batch = (self._recipe.minibatch, number)
        return Candidate(
            label=label, assignment=values, shown=demo_rows, batch=batch, is_final=False
        )

    def _full_candidate(self) -> Candidate:
        rest = [key for key in self._counts if key not in self._full]
        expected = self._scores.expected(rest) if self._scores is not None else [0.0] * len(rest)
        key = rest[max(range(len(rest)), key=lambda place: expected[place])]
        self._full.add(key)
        self._open_full = key
        values, demo_rows = self._ingredients.assignment(dict(key))
        label = f"best so far: {label_of({}, dict(key))}"
        return Candidate(label=label, assignment=values, shown=demo_rows)

    def tell(self, results: Sequence[Result]) -> None:
        if self._tuner is None:
            self._ingredients.tell(results)
            return
        for trial in results:
            if isinstance(trial, Trial):
                self._learn(self._tuner, trial)

    def _learn(self, tuner: Tuner, trial: Trial) -> None:
        if trial.candidate.is_final:
            self._record(self._open_full, trial)
            return
        number, key = self._pending.pop(trial.candidate.label)
        self._completed += 1
        tuner.learn(number, trial.score)
        if trial.score is not None:
            self._counts[key] = self._counts.get(key, 0) + 1
        self._record(key, trial)

    def _record(self, key: tuple[tuple[str, int], ...], trial: Trial) -> None:
        if self._scores is None:
            names = [name for name, _ in key]
            self._scores = OptionScores(names, trial.report.metrics[0], seed=self._task.seed)
            self._metric = trial.report.metrics[0]
        if trial.candidate.is_final:
            self._final[trial.number] = key
        self._scores.add(key, trial)

    def estimates(self, trials: Sequence[Trial]) -> Mapping[int, Mapping[str, float]]:
        """Return the expected score of each trial on all rows, given all trials."""
        if self._scores is None or not self._final:
            return {}
        as_it_is = tuple(sorted(dict.fromkeys(self._ingredients.choices(), 0).items()))
        numbers = dict(self._final)
        for trial in trials:
            if not trial.candidate.assignment and trial.candidate.is_final:
                numbers[trial.number] = as_it_is
                self._scores.add(as_it_is, trial)
        expected = self._scores.expected(list(numbers.values()))
        return {
            number: {self._metric: value} for number, value in zip(numbers, expected, strict=True)
        }
