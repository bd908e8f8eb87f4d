"""One search over everything that varies: texts, demonstrations, numbers, choices and modules."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from dspex.errors import DefinitionError, suggest
from dspex.language.variables import Choice, Constraint, Space, Variable
from dspex.language.variables.sampling import options
from dspex.learning.optimizers.bootstrap import BootstrapFewShot
from dspex.learning.optimizers.limits import spread
from dspex.learning.optimizers.mipro import Ingredients
from dspex.learning.optimizers.pooling import Pooled
from dspex.learning.optimizers.proposer import Additions, Ask, Candidate, Proposer, Task, Told, Trial
from dspex.learning.optimizers.random_search import RandomSearch
from dspex.learning.optimizers.sampler import Sampler
from dspex.learning.optimizers.standing import standing
from dspex.learning.optimizers.surrogate import check_installed


@dataclass(frozen=True, slots=True, kw_only=True)
class Joint:
    """Searches all variables of a program together, with successive halving on growing minibatches.

    Instructions come from a proposing model and from what variables declare, demonstrations from bootstrapping;
    numbers, choices and modules from their declarations. A cohort of candidates is scored on few rows; the best share
    of all that were scored so far goes on to more, the last of them to all (Jamieson and Talwalkar, "Non-stochastic
    Best Arm Identification", 2016). What is best is decided by the expectation from all scores together, not by one
    score on few rows; so is the winner. With several objectives the search looks for the whole Pareto front. Needs
    NumPy (`dspex[optimize]`).

    Args:
        trials: candidates drawn in all.
        cohort: candidates that compete in one halving.
        first_rows: rows of the first rung; each further one has `keep` times as many.
        keep: one in so many goes on.
        objectives: figures to maximize, "-usd" minimizes; the first metric by default.
        instructions: for each predictor, the current one among them; 1 leaves them as they are.
        sets: of demonstrations, the program's own not counted; 0 leaves them as they are.
        bootstrap: how a set is made.
        only: names of the variables that are searched; the others stay as they are. All by default.
    """

    trials: int = 32
    cohort: int = 8
    first_rows: int = 8
    keep: int = 3
    objectives: tuple[str, ...] = ()
    instructions: int = 4
    sets: int = 4
    bootstrap: BootstrapFewShot = field(default_factory=BootstrapFewShot)
    only: tuple[str, ...] = ()

    def start(self, task: Task) -> Proposer:
        """Begin with the texts and demonstrations.

        Raises:
            DefinitionError: nothing of the program can vary, or the recipe makes no sense.
            ConfigurationError: NumPy is not installed.
        """
        if min(self.trials, self.cohort, self.first_rows, self.keep - 1) < 1 or min(self.instructions, self.sets) < 0:
            raise DefinitionError(
                f"trials, cohort and first_rows are at least 1, keep at least 2, and instructions and sets at least 0, "
                f"not {self!r}"
            )
        check_installed()
        return _Search(self, task)

    def adds(self, task: Task) -> Additions:
        """Return how many demonstrations a set has at most, and how many questions are asked."""
        shown = self.bootstrap.adds(task).demonstrations if self.sets else 0
        questions = 1 + len(task.program.space) * (self.instructions - 1) if self.instructions > 1 else 0
        return Additions(demonstrations=shown, questions=questions)

    def runs(self, task: Task, rows: int) -> int:
        """Return at most how many times the program will run; a question for an instruction counts as one run."""
        walks = max(0, self.sets - 1) * self.bootstrap.rounds * len(task.train)
        questions = 1 + len(task.program.space) * max(0, self.instructions - 1)
        total = 0
        for start in range(0, self.trials, self.cohort):
            drawn, level, batch = min(self.cohort, self.trials - start), 0, self.first_rows
            while batch < rows:
                total += min(start + drawn, self.room(level) if level else drawn) * batch
                level, batch = level + 1, batch * self.keep
            total += min(start + drawn, self.room(level) if level else drawn) * rows
        return walks + questions + total + self._last(task) * rows

    def room(self, level: int) -> int:
        """Return how many candidates go on to a level at once."""
        return max(1, int(self.cohort / self.keep**level), len(self.objectives))

    def _last(self, task: Task) -> int:
        """Return how many candidates are scored on all rows in the end: some, or all where the space is exhausted."""
        space = task.program.space
        points = space.size * (1 + self.sets)
        for known in [max(1, len(variable.options)) for variable in space.values() if variable.kind == "text"]:
            points *= (known + max(0, self.instructions - 1)) / known
        # texts and sets may come out alike, and constraints refuse some: a space is exhausted before all are tried
        may_end = points <= 4 * self.trials or (math.isfinite(points) and len(space.constraints) > 0)
        return max(self.keep, math.ceil(min(points, self.trials))) if may_end else self.keep


@dataclass(slots=True)
class _Arm:
    number: int
    cohort: int
    label: str
    assignment: dict[str, Any]
    shown: frozenset[int]
    level: int = -1
    is_scored: bool = False


def _declared(space: Space) -> list[Variable]:
    """Return what is drawn from declarations, a text with options as a choice between them.

    Other texts, and demonstrations, come from elsewhere.
    """
    return [
        _as_choice(variable) if variable.kind == "text" else variable
        for variable in space.values()
        if variable.kind not in {"text", "examples"} or variable.options
    ]


def _closed(variables: Sequence[Variable], constraints: Sequence[Constraint]) -> Space:
    """Return the space of the variables that read no others, and of the constraints on them."""
    kept, count = list(variables), -1
    while count != len(kept):
        count, names = len(kept), {variable.name for variable in kept}
        kept = [variable for variable in kept if _reads(variable) <= names]
    return Space(kept, [constraint for constraint in constraints if constraint.reads() <= names])


def _as_choice(variable: Variable) -> Variable:
    known = () if variable.default is None else (variable.default,)
    options = tuple(dict.fromkeys((*known, *variable.options)))
    weights = variable.weights if len(options) == len(variable.options) else ()
    return replace(Choice(*options), name=variable.name, when=variable.when, weights=weights)


def _reads(variable: Variable) -> set[str]:
    found: set[str] = set()
    for expression in (variable.when, variable.compute):
        found |= set(expression.variables()) if expression is not None else set()
    return found


class _Search:
    """Draws cohorts; lets the most promising of all candidates go on to the next level, up to all rows."""

    def __init__(self, recipe: Joint, task: Task) -> None:
        self._recipe = recipe
        self._task = task
        self._ingredients = self._begin()
        self._made: dict[str, Variable] = {}
        self._sampler: Sampler | None = None
        self._pooled: Pooled | None = None
        self._arms: list[_Arm] = []
        self._cohorts = 0
        self._is_exhausted = False
        self._level = 0
        self._waiting: list[_Arm] = []
        self._open: dict[str, _Arm] = {}
        self._final: dict[int, _Arm] = {}
        self._batches = self._sizes()

    def _begin(self) -> Ingredients | None:
        """Return what makes texts and demonstrations, as far as they are searched."""
        space = self._task.program.space
        if unknown := [name for name in self._recipe.only if name not in space]:
            raise DefinitionError(f"there is no variable {unknown[0]!r}.{suggest(unknown[0], list(space))}")
        kinds = {space[name].kind for name in self._recipe.only or space}
        if not any(variable.kind == "examples" for variable in space.values()) or not kinds & {"examples", "text"}:
            return None
        sets = RandomSearch(
            bootstrap=self._recipe.bootstrap, candidates=self._recipe.sets if "examples" in kinds else 0
        )
        return Ingredients(self._task, sets=sets, instructions=self._recipe.instructions if "text" in kinds else 1)

    def _sizes(self) -> list[int | None]:
        """Return the rows of each level; None for all of them."""
        whole, size, found = self._task.scored or len(self._task.train), self._recipe.first_rows, list[int | None]()
        while size < whole:
            found.append(size)
            size *= self._recipe.keep
        return [*found, None]

    def ask(self, count: int) -> Sequence[Ask]:
        if self._sampler is None:
            if self._ingredients is not None and (asked := self._ingredients.ask(count)):
                return asked
            self._sampler = self._made_sampler()
        if not self._waiting and not self._open:
            self._waiting = self._next(self._sampler)
        asked_arms, self._waiting = self._waiting[:count], self._waiting[count:]
        return [self._candidate(arm) for arm in asked_arms]

    def _made_sampler(self) -> Sampler:
        space, current = self._searched(), self._task.program.assignment
        if not any(len(options(space[name])) != 1 for name in space if space[name].is_searchable):
            raise DefinitionError(
                f"nothing of {self._task.program.name!r} can vary: declare a variable, or let instructions or "
                "demonstrations be proposed"
            )
        objectives = max(1, len(self._recipe.objectives))
        startup = max(4, min(3 * self._recipe.cohort, self._recipe.trials // 2))
        sampler = Sampler(space, objectives=objectives, seed=self._task.seed, startup=startup)
        found = {name: current.get(name, v.default) for name, v in space.items() if v.is_searchable}
        found |= {variable.name: variable.options[0] for variable in self._made.values()}
        known = {name: value for name, value in found.items() if value is not None or space[name].has_default}
        sampler.first({name: known[name] for name in space.order if name in space.active(known) & set(known)})
        return sampler

    def _searched(self) -> Space:
        """Return the space: declarations, texts, and the numbers of sets; what is not searched has one option."""
        program, only = self._task.program, self._recipe.only
        made = self._ingredients.variables() if self._ingredients is not None else []
        self._made = {variable.name: variable for variable in made if not only or variable.name not in program.space}
        self._made |= {variable.name: variable for variable in made if variable.name in only}
        found: list[Variable] = list(self._made.values())
        for variable in _declared(program.space):
            name, current = variable.name, program.assignment.get(variable.name, variable.default)
            if name in self._made:
                continue
            if only and name not in only and variable.compute is None and current is not None:
                found.append(replace(Choice(current), name=name, when=variable.when))
            elif not only or name in only or variable.compute is not None:
                found.append(variable)
        return _closed(found, program.space.constraints)

    def _next(self, sampler: Sampler) -> list[_Arm]:
        """Return who goes on to the next level; after the last one, or where nobody does, a new cohort."""
        while self._arms and self._level + 1 < len(self._batches):
            self._level += 1
            if chosen := self._best(sampler, self._level - 1)[: self._recipe.room(self._level)]:
                return self._raised(chosen)
        self._level, self._cohorts = 0, self._cohorts + 1
        if drawn := self._drawn(sampler):
            self._arms += drawn
            return self._raised(drawn)
        return self._finalists(sampler)

    def _drawn(self, sampler: Sampler) -> list[_Arm]:
        """Return a new cohort; a smaller one where not more may be drawn, or where there is nothing new."""
        found: list[_Arm] = []
        room = min(self._recipe.cohort, self._recipe.trials - len(self._arms))
        while len(found) < room and (suggested := sampler.suggest()) is not None:
            found.append(self._arm(*suggested))
        self._is_exhausted = len(found) < room
        return found

    def _raised(self, arms: list[_Arm]) -> list[_Arm]:
        for arm in arms:
            arm.level = self._level
        return arms

    def _best(self, sampler: Sampler, level: int) -> list[_Arm]:
        """Return the arms that stand at a level, in the order in which they are to go on.

        First the one with the best expectation in the first objective; with several objectives, every second one is
        that of the front which is the farthest from those that are ahead.
        """
        there = [arm for arm in self._arms if arm.level == level and arm.is_scored]
        if not there:
            return []
        ahead = [arm for arm in self._arms if arm.level > level and arm.is_scored]
        expected = sampler.expected([arm.number for arm in (*there, *ahead)])
        return [there[place] for place in spread(expected, len(there))]

    def _finalists(self, sampler: Sampler) -> list[_Arm]:
        """Return the best that were not scored on all rows yet: the best few, or one cohort after the other in the end.

        Where the space is exhausted, all that is left to find out is which of its points is the best.
        """
        self._level = last = len(self._batches) - 1
        there = [arm for arm in self._arms if arm.is_scored]
        expected = sampler.expected([arm.number for arm in there]) if there else []
        order = sorted(range(len(there)), key=lambda n: (-expected[n][0], n))
        if self._is_exhausted:
            return self._raised([there[n] for n in order if there[n].level < last][: self._recipe.cohort])
        return self._raised([there[n] for n in order[: self._recipe.keep] if there[n].level < last])

    def _arm(self, number: int, values: Mapping[str, Any]) -> _Arm:
        made = self._made.items()
        chosen = {name: variable.options.index(values[name]) for name, variable in made if name in values}
        texts, shown = self._ingredients.assignment(chosen) if self._ingredients is not None else ({}, frozenset())
        only = self._recipe.only
        own = {n: value for n, value in values.items() if n not in self._made and (not only or n in only)}
        said = [f"{name}={value}" for name, value in own.items()]
        said += [f"{name} {index}" for name, index in chosen.items() if index]
        label = f"{number + 1}: {', '.join(said) or 'as it is'}"
        return _Arm(number, self._cohorts, label, {**own, **texts}, shown)

    def _candidate(self, arm: _Arm) -> Candidate:
        rows = self._batches[arm.level]
        batch = None if rows is None else (rows, arm.cohort)
        label = f"{arm.label} on {'all' if rows is None else rows} rows"
        self._open[label] = arm
        return Candidate(label=label, assignment=arm.assignment, shown=arm.shown, batch=batch, is_final=rows is None)

    def tell(self, results: Sequence[Told]) -> None:
        if self._sampler is None:
            if self._ingredients is not None:
                self._ingredients.tell(results)
            return
        for trial in results:
            if not isinstance(trial, Trial):
                continue
            arm = self._open.pop(trial.candidate.label)
            arm.is_scored = trial.score is not None
            if trial.candidate.is_final:
                self._final[trial.number] = arm
            self._measure(self._sampler, arm, trial)

    def _measure(self, sampler: Sampler, arm: _Arm, trial: Trial) -> None:
        if self._pooled is None:
            self._pooled = Pooled(self._recipe.objectives or (trial.report.metrics[0],))
        self._pooled.add(arm.number, trial)
        sampler.learn(self._pooled.measured())

    def _begins_as_it_is(self) -> bool:
        """Whether the arm that was drawn first, of all defaults, is what the program as it is stands at.

        Where it is not, the program as it is stays with the score that was measured.
        """
        now, space = standing(self._task.program), self._task.program.space
        return all(
            now[name] == value
            for name, value in self._arms[0].assignment.items()
            if name in space and space[name].has_default
        )

    def estimates(self, trials: Sequence[Trial]) -> Mapping[int, Mapping[str, float]]:
        """Return what each trial on all rows probably is worth, from all scores together."""
        if self._sampler is None or self._pooled is None or not self._final:
            return {}
        numbers = dict(self._final)
        for trial in trials:
            if not trial.candidate.assignment and trial.candidate.is_final and self._begins_as_it_is():
                numbers[trial.number] = self._arms[0]
                self._measure(self._sampler, self._arms[0], trial)
        expected = self._sampler.expected([arm.number for arm in numbers.values()])
        names = [name.removeprefix("-") for name in self._pooled.objectives]
        signs = [-1.0 if name.startswith("-") else 1.0 for name in self._pooled.objectives]
        return {
            number: {name: sign * value for name, sign, value in zip(names, signs, row, strict=True)}
            for number, row in zip(numbers, expected, strict=True)
        }
