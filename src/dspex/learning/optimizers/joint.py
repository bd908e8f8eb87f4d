"""A joint search over texts, demonstrations, numbers, choices and modules."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from dspex.argument_values import Count, CountFromTwo, CountOrZero
from dspex.arguments import checks_names
from dspex.error_text import suggest
from dspex.errors import DefinitionError
from dspex.language.variables import Choice, Constraint, Space, Variable
from dspex.language.variables.sampling import options
from dspex.learning.optimizers.bootstrap import BootstrapFewShot
from dspex.learning.optimizers.current_values import current_values
from dspex.learning.optimizers.labels import label_of
from dspex.learning.optimizers.limits import spread
from dspex.learning.optimizers.mipro import PromptOptions
from dspex.learning.optimizers.options import (
    ROWS,
    SIZE,
    TRIALS,
    OptimizerEntry,
    text_list,
    whole_number,
)
from dspex.learning.optimizers.pooled_scores import PooledScores
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
from dspex.learning.optimizers.sampler import Sampler
from dspex.learning.optimizers.surrogate import check_installed


@checks_names
@dataclass(frozen=True, slots=True, kw_only=True)
class Joint:
    """Searches all variables of a program together, with successive halving on growing minibatches.

    Instructions come from a proposing model and from declared options, demonstrations from
    bootstrapping, and numbers, choices and modules from their declarations. A cohort of candidates
    is scored on few rows; the best of all candidates so far are promoted to more rows, and finally
    to all (Jamieson and Talwalkar, "Non-stochastic Best Arm Identification", 2016). Promotion and
    the winner are decided by the expected score given all scores, not by one score on few rows.
    With several objectives the search covers the whole Pareto front. Needs NumPy
    (`dspex[optimize]`).

    Args:
        trials: total number of candidates.
        cohort: candidates that compete in one halving.
        first_rows: rows of the first rung; each further rung has `keep` times as many.
        keep: one in `keep` candidates is promoted.
        objectives: figures to maximize ("-usd" minimizes); the first metric by default.
        instructions: per predictor, including the current one; 1 keeps the current ones.
        sets: of demonstrations, besides the program's own; 0 keeps the program's own.
        bootstrap: how a set is created.
        only: names of the variables to search; the others keep their values. All by default.
    """

    trials: Count = 32
    cohort: Count = 8
    first_rows: Count = 8
    keep: CountFromTwo = 3
    objectives: tuple[str, ...] = ()
    instructions: CountOrZero = 4
    sets: CountOrZero = 4
    bootstrap: BootstrapFewShot = field(default_factory=BootstrapFewShot)
    only: tuple[str, ...] = ()

    def start(self, task: Task) -> Proposer:
        """Begin with the texts and demonstrations.

        Raises:
            DefinitionError: nothing in the program can vary.
            ConfigurationError: NumPy is not installed.
        """
        check_installed()
        return _Search(self, task)

    def additions(self, task: Task) -> Additions:
        """Return the largest number of demonstrations in a set, and the number of questions."""
        demonstrations = self.bootstrap.additions(task).demonstrations if self.sets else 0
        questions = (
            1 + len(task.program.space) * (self.instructions - 1) if self.instructions > 1 else 0
        )
        return Additions(demonstrations=demonstrations, questions=questions)

    def runs(self, task: Task, rows: int) -> int:
        """Return the most program runs; a question for an instruction counts as one."""
        walks = max(0, self.sets - 1) * self.bootstrap.rounds * len(task.train)
        questions = 1 + len(task.program.space) * max(0, self.instructions - 1)
        total = 0
        for start in range(0, self.trials, self.cohort):
            arms, level, batch = min(self.cohort, self.trials - start), 0, self.first_rows
            while batch < rows:
                total += min(start + arms, self.room(level) if level else arms) * batch
                level, batch = level + 1, batch * self.keep
            total += min(start + arms, self.room(level) if level else arms) * rows
        return walks + questions + total + self._last(task) * rows

    def room(self, level: int) -> int:
        """Return how many candidates are promoted to a level at once."""
        return max(1, int(self.cohort / self.keep**level), len(self.objectives))

    def _last(self, task: Task) -> int:
        """Return how many candidates are scored on all rows in the end.

        A few, or all if the space may be exhausted.
        """
        space = task.program.space
        points = space.size * (1 + self.sets)
        for count in [
            max(1, len(variable.options)) for variable in space.values() if variable.kind == "text"
        ]:
            points *= (count + max(0, self.instructions - 1)) / count
        # texts and sets may coincide and constraints reject some, so a space may be exhausted early
        may_end = points <= 4 * self.trials or (
            math.isfinite(points) and len(space.constraints) > 0
        )
        return max(self.keep, math.ceil(min(points, self.trials))) if may_end else self.keep


ENTRY = OptimizerEntry(
    create=Joint,
    extra="optimize",
    options={
        "trials": TRIALS,
        "cohort": SIZE,
        "first_rows": ROWS,
        "keep": SIZE,
        "objectives": text_list(16, flag="objective"),
        "instructions": whole_number(0, 100),
        "sets": whole_number(0, 100),
        "only": text_list(256),
    },
)


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
    """Return the variables that are sampled; a text with options becomes a choice.

    Other texts and all demonstrations are proposed instead.
    """
    return [
        _as_choice(variable) if variable.kind == "text" else variable
        for variable in space.values()
        if variable.kind not in {"text", "examples"} or variable.options
    ]


def _closed_space(variables: Sequence[Variable], constraints: Sequence[Constraint]) -> Space:
    """Return the space of the variables whose references are all included, with its constraints."""
    remaining, count = list(variables), -1
    while count != len(remaining):
        count, names = len(remaining), {variable.name for variable in remaining}
        remaining = [variable for variable in remaining if _referenced_names(variable) <= names]
    return Space.derived(
        remaining, [constraint for constraint in constraints if constraint.reads() <= names]
    )


def _as_choice(variable: Variable) -> Variable:
    default = () if variable.default is None else (variable.default,)
    options = tuple(dict.fromkeys((*default, *variable.options)))
    weights = variable.weights if len(options) == len(variable.options) else ()
    return replace(Choice(*options), name=variable.name, when=variable.when, weights=weights)


def _referenced_names(variable: Variable) -> set[str]:
    names: set[str] = set()
    for expression in (variable.when, variable.compute):
        names |= set(expression.variables()) if expression is not None else set()
    return names


class _Search:
    """Draws cohorts and promotes the most promising candidates level by level, up to all rows."""

    def __init__(self, recipe: Joint, task: Task) -> None:
        self._recipe = recipe
        self._task = task
        self._ingredients = self._begin()
        self._proposed: dict[str, Variable] = {}
        self._sampler: Sampler | None = None
        self._pooled: PooledScores | None = None
        self._arms: list[_Arm] = []
        self._cohorts = 0
        self._is_exhausted = False
        self._level = 0
        self._waiting: list[_Arm] = []
        self._open: dict[str, _Arm] = {}
        self._final: dict[int, _Arm] = {}
        self._batches = self._sizes()

    def _begin(self) -> PromptOptions | None:
        """Return the source of texts and demonstrations, or None if neither is searched."""
        space = self._task.program.space
        if unknown := [name for name in self._recipe.only if name not in space]:
            raise DefinitionError(
                f"unknown variable {unknown[0]!r}.{suggest(unknown[0], list(space))}"
            )
        kinds = {space[name].kind for name in self._recipe.only or space}
        if not any(variable.kind == "examples" for variable in space.values()) or not kinds & {
            "examples",
            "text",
        }:
            return None
        sets = RandomSearch(
            bootstrap=self._recipe.bootstrap,
            candidates=self._recipe.sets if "examples" in kinds else 0,
        )
        return PromptOptions(
            self._task, sets=sets, instructions=self._recipe.instructions if "text" in kinds else 1
        )

    def _sizes(self) -> list[int | None]:
        """Return the number of rows at each level; None means all."""
        whole, size, sizes = (
            self._task.scored or len(self._task.train),
            self._recipe.first_rows,
            list[int | None](),
        )
        while size < whole:
            sizes.append(size)
            size *= self._recipe.keep
        return [*sizes, None]

    def ask(self, count: int) -> Sequence[Ask]:
        if self._sampler is None:
            if self._ingredients is not None and (questions := self._ingredients.ask(count)):
                return questions
            self._sampler = self._create_sampler()
        if not self._waiting and not self._open:
            self._waiting = self._next(self._sampler)
        asked_arms, self._waiting = self._waiting[:count], self._waiting[count:]
        return [self._candidate(arm) for arm in asked_arms]

    def _create_sampler(self) -> Sampler:
        space, current = self._search_space(), self._task.program.assignment
        if not any(len(options(space[name])) != 1 for name in space if space[name].is_searchable):
            raise DefinitionError(
                f"nothing in {self._task.program.name!r} can vary: declare a variable, or allow "
                "proposed instructions or demonstrations"
            )
        objectives = max(1, len(self._recipe.objectives))
        startup = max(4, min(3 * self._recipe.cohort, self._recipe.trials // 2))
        sampler = Sampler(space, objectives=objectives, seed=self._task.seed, startup=startup)
        values = {
            name: current.get(name, v.default) for name, v in space.items() if v.is_searchable
        }
        values |= {variable.name: variable.options[0] for variable in self._proposed.values()}
        first_values = {
            name: value
            for name, value in values.items()
            if value is not None or space[name].has_default
        }
        sampler.first(
            {
                name: first_values[name]
                for name in space.order
                if name in space.active(first_values) & set(first_values)
            }
        )
        return sampler

    def _search_space(self) -> Space:
        """Return the search space: declarations, texts and set numbers.

        A fixed variable has one option.
        """
        program, only = self._task.program, self._recipe.only
        proposed = self._ingredients.variables() if self._ingredients is not None else []
        self._proposed = {
            variable.name: variable
            for variable in proposed
            if not only or variable.name not in program.space
        }
        self._proposed |= {
            variable.name: variable for variable in proposed if variable.name in only
        }
        variables: list[Variable] = list(self._proposed.values())
        for variable in _declared(program.space):
            name, current = variable.name, program.assignment.get(variable.name, variable.default)
            if name in self._proposed:
                continue
            if only and name not in only and variable.compute is None and current is not None:
                variables.append(replace(Choice(current), name=name, when=variable.when))
            elif not only or name in only or variable.compute is not None:
                variables.append(variable)
        return _closed_space(variables, program.space.constraints)

    def _next(self, sampler: Sampler) -> list[_Arm]:
        """Return the arms promoted to the next level, or a new cohort after the last level.

        Also if no arm is good enough.
        """
        while self._arms and self._level + 1 < len(self._batches):
            self._level += 1
            if best_arms := self._best(sampler, self._level - 1)[: self._recipe.room(self._level)]:
                return self._promote(best_arms)
        self._level, self._cohorts = 0, self._cohorts + 1
        if new_arms := self._new_cohort(sampler):
            self._arms += new_arms
            return self._promote(new_arms)
        return self._finalists(sampler)

    def _new_cohort(self, sampler: Sampler) -> list[_Arm]:
        """Return a new cohort; smaller if the trials or the space run out."""
        arms: list[_Arm] = []
        room = min(self._recipe.cohort, self._recipe.trials - len(self._arms))
        while len(arms) < room and (suggested := sampler.suggest()) is not None:
            arms.append(self._arm(*suggested))
        self._is_exhausted = len(arms) < room
        return arms

    def _promote(self, arms: list[_Arm]) -> list[_Arm]:
        for arm in arms:
            arm.level = self._level
        return arms

    def _best(self, sampler: Sampler, level: int) -> list[_Arm]:
        """Return the scored arms of a level in the order of promotion.

        The best expected score in the first objective comes first; with several objectives, every
        second arm is the one on the front that is farthest from all promoted arms.
        """
        arms = [arm for arm in self._arms if arm.level == level and arm.is_scored]
        if not arms:
            return []
        ahead = [arm for arm in self._arms if arm.level > level and arm.is_scored]
        expected = sampler.expected([arm.number for arm in (*arms, *ahead)])
        return [arms[place] for place in spread(expected, len(arms))]

    def _finalists(self, sampler: Sampler) -> list[_Arm]:
        """Return the best arms that were not scored on all rows yet.

        A few, or cohort by cohort at the end.

        In an exhausted space, the only remaining question is which of its points is the best.
        """
        self._level = last = len(self._batches) - 1
        scored = [arm for arm in self._arms if arm.is_scored]
        expected = sampler.expected([arm.number for arm in scored]) if scored else []
        order = sorted(range(len(scored)), key=lambda n: (-expected[n][0], n))
        if self._is_exhausted:
            return self._promote(
                [scored[n] for n in order if scored[n].level < last][: self._recipe.cohort]
            )
        return self._promote(
            [scored[n] for n in order[: self._recipe.keep] if scored[n].level < last]
        )

    def _arm(self, number: int, values: Mapping[str, Any]) -> _Arm:
        proposed = self._proposed.items()
        indexes = {
            name: variable.options.index(values[name])
            for name, variable in proposed
            if name in values
        }
        texts, demo_rows = (
            self._ingredients.assignment(indexes)
            if self._ingredients is not None
            else ({}, frozenset())
        )
        only = self._recipe.only
        declared = {
            n: value
            for n, value in values.items()
            if n not in self._proposed and (not only or n in only)
        }
        label = f"{number + 1}: {label_of(declared, indexes)}"
        return _Arm(number, self._cohorts, label, {**declared, **texts}, demo_rows)

    def _candidate(self, arm: _Arm) -> Candidate:
        rows = self._batches[arm.level]
        batch = None if rows is None else (rows, arm.cohort)
        label = arm.label if rows is None else f"{arm.label} on {rows} rows"
        self._open[label] = arm
        return Candidate(
            label=label,
            assignment=arm.assignment,
            shown=arm.shown,
            batch=batch,
            is_final=rows is None,
        )

    def tell(self, results: Sequence[Result]) -> None:
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
            self._pooled = PooledScores(self._recipe.objectives or (trial.report.metrics[0],))
        self._pooled.add(arm.number, trial)
        sampler.learn(self._pooled.measurements())

    def _first_arm_is_baseline(self) -> bool:
        """Whether the first arm, made of all defaults, equals the unchanged program.

        If not, the unchanged program keeps its measured score.
        """
        now, space = current_values(self._task.program), self._task.program.space
        return all(
            now[name] == value
            for name, value in self._arms[0].assignment.items()
            if name in space and space[name].has_default
        )

    def estimates(self, trials: Sequence[Trial]) -> Mapping[int, Mapping[str, float]]:
        """Return the expected figures of each trial on all rows, given all scores."""
        if self._sampler is None or self._pooled is None or not self._final:
            return {}
        numbers = dict(self._final)
        for trial in trials:
            if (
                not trial.candidate.assignment
                and trial.candidate.is_final
                and self._first_arm_is_baseline()
            ):
                numbers[trial.number] = self._arms[0]
                self._measure(self._sampler, self._arms[0], trial)
        expected = self._sampler.expected([arm.number for arm in numbers.values()])
        names = [name.removeprefix("-") for name in self._pooled.objectives]
        signs = [-1.0 if name.startswith("-") else 1.0 for name in self._pooled.objectives]
        return {
            number: {
                name: sign * value for name, sign, value in zip(names, signs, row, strict=True)
            }
            for number, row in zip(numbers, expected, strict=True)
        }
