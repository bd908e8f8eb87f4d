"""One search over everything that varies: texts, demonstrations, numbers, choices and modules."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from dspex.errors import DefinitionError, VariableError
from dspex.language.variables import Space, Variable
from dspex.learning.optimizers.bootstrap import BootstrapFewShot
from dspex.learning.optimizers.limits import figure_of
from dspex.learning.optimizers.mipro import Ingredients
from dspex.learning.optimizers.proposer import Ask, Candidate, Proposer, Task, Told, Trial
from dspex.learning.optimizers.random_search import RandomSearch
from dspex.learning.optimizers.tuner import Tuner


@dataclass(frozen=True, slots=True, kw_only=True)
class Joint:
    """Searches all variables of a program together, with successive halving on growing minibatches.

    Instructions come from a proposing model, demonstrations from bootstrapping; numbers, choices and modules from
    their declarations. A cohort of candidates is scored on few rows; the best share goes on to more, the last of them
    to all (Jamieson and Talwalkar, "Non-stochastic Best Arm Identification", 2016). The sampler learns from every
    rung. With several objectives it looks for the whole Pareto front. Needs Optuna (`dspex[optimize]`).

    Args:
        trials: candidates drawn in all.
        cohort: candidates that compete in one halving.
        first_rows: rows of the first rung; each further one has `keep` times as many.
        keep: one in so many goes on.
        objectives: figures to maximize, "-usd" minimizes; the first metric by default.
        instructions: for each predictor, the current one among them; 1 leaves them as they are.
        sets: of demonstrations, the program's own not counted; 0 leaves them as they are.
        bootstrap: how a set is made.
    """

    trials: int = 32
    cohort: int = 8
    first_rows: int = 8
    keep: int = 3
    objectives: tuple[str, ...] = ()
    instructions: int = 4
    sets: int = 4
    bootstrap: BootstrapFewShot = field(default_factory=BootstrapFewShot)

    def start(self, task: Task) -> Proposer:
        """Begin with the texts and demonstrations.

        Raises:
            DefinitionError: nothing of the program can vary, or the recipe makes no sense.
            ConfigurationError: Optuna is not installed.
        """
        if self.trials < 1 or self.cohort < 1 or self.keep < 2 or self.first_rows < 1:
            raise DefinitionError(f"trials, cohort and first_rows are at least 1 and keep at least 2, not {self!r}")
        return _Search(self, task)

    def runs(self, task: Task, rows: int) -> int:
        """Return at most how many times the program will run; a question for an instruction counts as one run."""
        walks = max(0, self.sets - 1) * self.bootstrap.rounds * len(task.train)
        questions = 1 + len(task.program.space) * max(0, self.instructions - 1)
        total = 0
        for start in range(0, self.trials, self.cohort):
            alive, batch = min(self.cohort, self.trials - start), self.first_rows
            while True:
                total += alive * min(batch, rows)
                if batch >= rows:
                    break
                alive, batch = max(1, alive // self.keep), batch * self.keep
        return walks + questions + total


@dataclass(slots=True)
class _Arm:
    number: int
    label: str
    assignment: dict[str, Any]
    shown: frozenset[int]
    figures: dict[str, float] = field(default_factory=dict)
    score: float | None = None


def searchable(space: Space) -> Space:
    """Return the part of a space that is drawn from declarations: texts and demonstrations come from elsewhere.

    A condition on a text stays out with it.
    """
    kept: list[Variable] = [
        variable for variable in space.values() if variable.kind not in {"text", "examples"} or variable.options
    ]
    names = {variable.name for variable in kept}
    constraints = [c for c in space.constraints if {*c.test.variables(), *c.rewrite} <= names]
    return Space([variable for variable in kept if _reads(variable) <= names], constraints)


def _reads(variable: Variable) -> set[str]:
    found: set[str] = set()
    for expression in (variable.when, variable.compute):
        found |= set(expression.variables()) if expression is not None else set()
    return found


class _Search:
    def __init__(self, recipe: Joint, task: Task) -> None:
        self._recipe = recipe
        self._task = task
        self._space = searchable(task.program.space)
        self._ingredients = self._begin()
        self._tuner: Tuner | None = None
        self._drawn = 0
        self._waiting: list[_Arm] = []
        self._rung: list[_Arm] = []
        self._open: dict[str, _Arm] = {}
        self._rows = 0
        self._is_last = False

    def _begin(self) -> Ingredients | None:
        if any(variable.kind == "examples" for variable in self._task.program.space.values()):
            sets = RandomSearch(bootstrap=self._recipe.bootstrap, candidates=self._recipe.sets)
            return Ingredients(self._task, sets=sets, instructions=self._recipe.instructions)
        return None

    def ask(self, count: int) -> Sequence[Ask]:
        if self._tuner is None:
            if self._ingredients is not None and (asked := self._ingredients.ask(count)):
                return asked
            self._tuner = self._made_tuner()
        if not self._waiting and not self._open:
            self._next_rung(self._tuner)
        asked_arms, self._waiting = self._waiting[:count], self._waiting[count:]
        return [self._candidate(arm) for arm in asked_arms]

    def _made_tuner(self) -> Tuner:
        choices = self._ingredients.choices() if self._ingredients is not None else {}
        if not choices and not self._space.dimensions:
            raise DefinitionError(
                f"nothing of {self._task.program.name!r} can vary: declare a variable, or let instructions or "
                "demonstrations be proposed"
            )
        tuner = Tuner(
            self._space,
            choices=choices,
            objectives=max(1, len(self._recipe.objectives)),
            seed=self._task.seed,
            startup=max(4, self._recipe.cohort),
        )
        defaults = {n: v.default for n, v in self._space.items() if v.is_searchable and v.default is not None}
        tuner.first(defaults, dict.fromkeys(choices, 0))
        return tuner

    def _next_rung(self, tuner: Tuner) -> None:
        """Let the best of this rung go on to more rows, or begin a new cohort."""
        if self._rung and not self._is_last:
            scored = [arm for arm in self._rung if arm.score is not None]
            scored.sort(key=lambda arm: (-self._goal(arm), arm.number))
            self._rung = scored[: max(1, len(self._rung) // self._recipe.keep)]
            self._rows *= self._recipe.keep
        else:
            size = min(self._recipe.cohort, self._recipe.trials - self._drawn)
            self._rung = [self._arm(tuner) for _ in range(size)]
            self._rows = self._recipe.first_rows
        self._is_last = self._rows >= (self._task.scored or len(self._task.train))
        self._waiting = list(self._rung)

    def _arm(self, tuner: Tuner) -> _Arm:
        for _ in range(50):
            number, values, chosen = tuner.suggest()
            try:
                self._space.complete(values)
            except VariableError:  # a constraint: the sampler learns that there is nothing here
                tuner.learn(number, None, ())
                continue
            self._drawn += 1
            texts, shown = self._ingredients.assignment(chosen) if self._ingredients is not None else ({}, frozenset())
            said = [f"{name}={value}" for name, value in values.items()]
            said += [f"{name} {index}" for name, index in chosen.items() if index]
            label = f"{self._drawn}: {', '.join(said) or 'as it is'}"
            return _Arm(number, label, {**values, **texts}, shown)
        raise VariableError("no assignment satisfies the constraints of the space after 50 suggestions; loosen them")

    def _candidate(self, arm: _Arm) -> Candidate:
        batch = None if self._is_last else (self._rows, self._drawn)
        label = f"{arm.label} on {'all' if batch is None else self._rows} rows"
        self._open[label] = arm
        return Candidate(label=label, assignment=arm.assignment, shown=arm.shown, batch=batch, is_final=self._is_last)

    def tell(self, results: Sequence[Told]) -> None:
        if self._tuner is None:
            if self._ingredients is not None:
                self._ingredients.tell(results)
            return
        for trial in results:
            if isinstance(trial, Trial):
                self._learn(self._tuner, trial)

    def _learn(self, tuner: Tuner, trial: Trial) -> None:
        arm = self._open.pop(trial.candidate.label)
        is_first = not arm.figures
        arm.score, arm.figures = trial.score, dict(trial.figures)
        if is_first:
            objectives = self._recipe.objectives or (trial.report.metrics[0],)
            tuner.learn(arm.number, None if trial.score is None else arm.figures, objectives)

    def _goal(self, arm: _Arm) -> float:
        if not self._recipe.objectives:
            return arm.score or 0.0
        return figure_of(arm.figures, self._recipe.objectives[0])
