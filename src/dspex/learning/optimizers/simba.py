"""Ascent on mini-batches: demonstrations, rules and values from rows on which runs differ."""

import math
import random
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any

from dspex.argument_values import Count, CountOrZero
from dspex.arguments import checks_names
from dspex.execution.modules import Predict
from dspex.language.signatures import Signature
from dspex.language.variables.sampling import value_at
from dspex.learning.evaluation import Row
from dspex.learning.optimizers.bootstrap import last_demos
from dspex.learning.optimizers.current_values import current_values
from dspex.learning.optimizers.instructions import instruction_variables
from dspex.learning.optimizers.labels import short_name, value_text
from dspex.learning.optimizers.options import DEMOS, SIZE, OptimizerEntry
from dspex.learning.optimizers.proposer import (
    Additions,
    Ask,
    Call,
    Candidate,
    Proposer,
    Result,
    SearchQuestion,
    SearchReply,
    Task,
    Trial,
)
from dspex.learning.optimizers.reflection import changeable_variables, feedback

_SHARPNESS = 5.0  # of the choice among programs: 0.2 more of a score is chosen e times as often
_CAUTION = 4  # rows; a program with few rows counts as more ordinary than it looked there
_RULE = Signature(
    "step, instruction_so_far, worse_run, better_run -> rule",
    "A language model carries out one step of a program by an instruction. Compare a worse and a "
    "better run on the same row: its answer, the expected one and the score. Write one rule to add "
    "to the instruction, so that the step does as well as in the better run. State when the rule "
    "applies. It must hold beyond this row.",
)


@checks_names
@dataclass(frozen=True, slots=True, kw_only=True)
class SIMBA:
    """Adds one demonstration, rule or value at a time, learned from rows on which runs differ.

    Each step runs good programs of a pool on a mini-batch, several times for each row. The rows
    with the largest differences between runs come first. Each leads to one change of a program of
    the pool: a run that went well becomes a demonstration, a model that reads a worse and a better
    run adds a rule to an instruction, or another variable is drawn anew. The changed programs are
    scored on the mini-batch, and the best one on all rows, if it may be the best so far. After the
    optimizer of that name in DSPy ("stochastic introspective mini-batch ascent"), which changes
    texts and demonstrations alone.

    Args:
        steps: the number of mini-batches.
        minibatch: the number of rows in each.
        candidates: the runs of each row, and the changed programs of a step.
        demonstrations: the most demonstrations in a predictor; 0 adds none.
    """

    steps: Count = 8
    minibatch: Count = 32
    candidates: Count = 6
    demonstrations: CountOrZero = 4

    def start(self, task: Task) -> Proposer:
        """Begin with the unchanged program.

        Raises:
            DefinitionError: nothing in the program can vary.
        """
        return _Ascent(self, task)

    def runs(self, task: Task, rows: int) -> int:
        """Return the most program runs; a reflection counts as one."""
        batch = min(self.minibatch, len(task.train))
        return rows + self.steps * (self.candidates * (2 * batch + 1) + rows)

    def additions(self, task: Task) -> Additions:
        """Return the most demonstrations, and one reflection for each changed program."""
        return Additions(demonstrations=self.demonstrations, questions=self.steps * self.candidates)


ENTRY = OptimizerEntry(
    create=SIMBA,
    options={"steps": SIZE, "minibatch": SIZE, "candidates": SIZE, "demonstrations": DEMOS},
)

Steps = Generator[Sequence[Ask], Sequence[Result], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Demonstration:
    """A run that went well: its row, and its calls by variable."""

    row: int
    calls: Mapping[str, Sequence[Mapping[str, Any]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Member:
    """A program of the pool, and its score on each row that is known."""

    label: str
    values: Mapping[str, Any] = field(default_factory=dict)
    demos: tuple[_Demonstration, ...] = ()
    scores: dict[str, float] = field(default_factory=dict)

    @property
    def shown(self) -> frozenset[int]:
        """The rows of its demonstrations."""
        return frozenset(demo.row for demo in self.demos)

    def learn(self, result: Result) -> None:
        """Take the scores of a trial; a failed row counts as 0, or as the worst if that is less."""
        if isinstance(result, Trial):
            worst = min([0.0, *(row.score or 0.0 for row in result.report.rows)])
            for row in result.report.rows:
                self.scores[repr(row.example)] = worst if row.score is None else row.score


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """One run of a program on one training row."""

    place: int
    row: Row
    calls: Sequence[Call]

    @property
    def score(self) -> float:
        """The score; minus infinity if the run failed."""
        return -math.inf if self.row.score is None else self.row.score


class _Ascent:
    """Hands out what the pool asks for, and sends it the results when they are complete."""

    def __init__(self, recipe: SIMBA, task: Task) -> None:
        self._search = _Pool(recipe, task).search()
        self._asks: Sequence[Ask] = next(self._search)
        self._results: list[Result] = []

    def ask(self, count: int) -> Sequence[Ask]:
        return self._asks[:count]

    def tell(self, results: Sequence[Result]) -> None:
        self._results += results
        self._asks = self._asks[len(results) :]
        if self._asks:
            return
        complete, self._results = self._results, []
        try:
            self._asks = self._search.send(complete)
        except StopIteration:
            self._asks = ()


class _Pool:
    """The programs so far. A generator of everything to ask; it is sent the results."""

    def __init__(self, recipe: SIMBA, task: Task) -> None:
        self._recipe = recipe
        self._task = task
        self._rng = random.Random(f"{task.seed}/simba")
        self._signatures = dict(instruction_variables(task))
        space = task.program.space
        names = changeable_variables(task, demonstrations=recipe.demonstrations)
        self._slots = {
            name: tuple(path.rpartition(".")[0] for path in space[name].paths)
            for name in names
            if space[name].kind == "examples"
        }
        self._texts = [name for name in names if name in self._signatures]
        self._others = [name for name in names if name not in {*self._texts, *self._slots}]
        self._current = current_values(task.program)
        self._members = [_Member(label="the program as it is")]
        self._levels = {self._members[0].label: 0.0}
        self._order: list[int] = []

    def search(self) -> Steps:
        """Yield what to ask, and take the results, step by step."""
        best = self._members[0]
        unchanged = Candidate(label=f"{best.label}, row by row", assignment={}, is_final=False)
        best.learn((yield [unchanged])[0])
        for step in range(1, self._recipe.steps + 1):
            batch = self._batch()
            asks = self._samples(batch, step)
            buckets = self._buckets(asks, (yield [candidate for _, candidate in asks]))
            self._rate()
            children, questions = self._changes(buckets, step)
            replies = (yield [question for _, _, question in questions]) if questions else ()
            children += self._rules(questions, replies)
            if not children:
                continue
            trials = yield [self._candidate(child, rows=batch) for child in children]
            for child, trial in zip(children, trials, strict=True):
                child.learn(trial)
            self._members += children
            self._rate()
            leader = max(children, key=self._level)
            if self._level(leader) > self._level(best):
                leader.learn((yield [self._candidate(leader)])[0])
                self._rate()
                best = max(best, leader, key=self._level)

    def _batch(self) -> list[int]:
        """Return the rows of the next mini-batch; every row comes before one comes again."""
        count, size = len(self._task.train), self._recipe.minibatch
        if len(self._order) < min(size, count):
            self._order = self._rng.sample(range(count), count)
        batch, self._order = self._order[:size], self._order[size:]
        return batch

    def _samples(self, batch: Sequence[int], step: int) -> list[tuple[_Member, Candidate]]:
        """Return runs of good programs on every row: once as they are, then at temperature 1."""
        samples = []
        for number in range(self._recipe.candidates):
            rows: dict[str, list[int]] = {}
            for row in batch:
                rows.setdefault(self._choose(row).label, []).append(row)
            for member in self._members:
                candidate = replace(
                    self._candidate(member, rows=rows.get(member.label, [])),
                    label=f"step {step}, run {number + 1}: {member.label}",
                    temperature=1.0 if number else None,
                    salt=f"step {step}, run {number + 1}" if number else "",
                    is_traced=True,
                )
                if candidate.rows:
                    samples.append((member, candidate))
        return samples

    def _choose(self, row: int | None = None) -> _Member:
        """Return a good program that does not show `row`, the better the more often."""
        # the unchanged program shows no row
        able = [member for member in self._members if row is None or row not in member.shown]
        best = sorted(able, key=self._level, reverse=True)[: self._recipe.candidates]
        weights = [math.exp(_SHARPNESS * self._level(member)) for member in best]
        return self._rng.choices(best, weights=weights, k=1)[0]

    def _level(self, member: _Member) -> float:
        """Return how much better a program is than others, as of the last `_rate`."""
        return self._levels[member.label]

    def _rate(self) -> None:
        """Compare each program with all others on the rows that it has scores of."""
        scores: dict[str, list[float]] = {}
        for member in self._members:
            for key, score in member.scores.items():
                scores.setdefault(key, []).append(score)
        usual = {key: fmean(values) for key, values in scores.items()}
        self._levels = {
            member.label: sum(score - usual[key] for key, score in member.scores.items())
            / (len(member.scores) + _CAUTION)
            for member in self._members
        }

    def _buckets(
        self, samples: Sequence[tuple[_Member, Candidate]], results: Sequence[Result]
    ) -> list[list[_Run]]:
        """Return the runs of each row from worst to best, rows with large differences first."""
        runs: dict[int, list[_Run]] = {}
        for (member, candidate), trial in zip(samples, results, strict=True):
            if not isinstance(trial, Trial):
                continue
            if candidate.temperature is None:
                member.learn(trial)
            rows = zip(candidate.rows or (), trial.report.rows, trial.calls, strict=False)
            for place, row, calls in rows:
                runs.setdefault(place, []).append(_Run(place=place, row=row, calls=calls))
        buckets = [sorted(bucket, key=lambda run: run.score) for bucket in runs.values()]
        return sorted(buckets, key=_spread, reverse=True)

    def _changes(
        self, buckets: Sequence[Sequence[_Run]], step: int
    ) -> tuple[list[_Member], list[tuple[_Member, str, SearchQuestion]]]:
        """Return changed programs, and questions for rules with what they are about."""
        children: list[_Member] = []
        questions: list[tuple[_Member, str, SearchQuestion]] = []
        top = max((bucket[-1].score for bucket in buckets), default=0.0)
        for bucket in buckets:
            label = f"step {step}, {len(children) + len(questions) + 1}"
            if len(children) + len(questions) == self._recipe.candidates:
                break
            parent, ways = self._choose(), []
            if self._slots and bucket[-1].score > 0 and bucket[-1].place not in parent.shown:
                ways.append("demonstration")
            if self._texts and bucket[0].score < top:
                ways.append("rule")
            if self._others:
                ways.append("value")
            way = self._rng.choice(ways) if ways else ""
            if way == "demonstration":
                children.append(self._demonstrate(parent, bucket[-1], label))
            elif way == "rule":
                name = self._rng.choice(self._texts)
                text, runs = self._instruction(parent, name), (bucket[0], bucket[-1])
                question = self._question(text, runs, name=name, label=label)
                questions.append((parent, name, question))
            elif way == "value":
                name = self._rng.choice(self._others)
                value = value_at(self._task.program.space[name], self._rng.random())
                label = f"{label}: {short_name(name)} by {value_text(value)}"
                children.append(
                    replace(parent, label=label, values={**parent.values, name: value}, scores={})
                )
        return children, questions

    def _demonstrate(self, parent: _Member, run: _Run, label: str) -> _Member:
        """Return the parent with one more demonstration, and some of its own left out."""
        most = self._recipe.demonstrations
        demos = [demo for demo in parent.demos if self._rng.random() >= 1 / most]
        demo = _Demonstration(row=run.place, calls=last_demos(run.calls, self._slots))
        demos = [*demos, demo][-most:]
        return replace(parent, label=f"{label}: a demonstration", demos=tuple(demos), scores={})

    def _question(
        self, text: str, runs: tuple[_Run, _Run], *, name: str, label: str
    ) -> SearchQuestion:
        """Return the question for a rule to add to a text, given a worse and a better run."""
        worse, better = runs
        inputs = {
            "step": f"{self._signatures[name]}; it belongs to {self._task.program.signature}",
            "instruction_so_far": text,
            "worse_run": feedback(worse.row),
            "better_run": feedback(better.row) if better.score > worse.score else "(none)",
        }
        return SearchQuestion(module=Predict(_RULE, temperature=1.0), inputs=inputs, salt=label)

    def _instruction(self, member: _Member, name: str) -> str:
        current = member.values.get(name, self._current.get(name))
        return str(current or self._signatures[name].instructions)

    def _rules(
        self,
        questions: Sequence[tuple[_Member, str, SearchQuestion]],
        replies: Sequence[Result],
    ) -> Iterator[_Member]:
        """Yield the programs with the rules that were written."""
        for (parent, name, question), reply in zip(questions, replies, strict=True):
            outputs = reply.outputs if isinstance(reply, SearchReply) else None
            if rule := str((outputs or {}).get("rule", "")).strip():
                text = f"{self._instruction(parent, name)}\n\n{rule}"
                label = f"{question.salt}: {short_name(name)} by a rule"
                values = {**parent.values, name: text}
                yield replace(parent, label=label, values=values, scores={})

    def _candidate(self, member: _Member, *, rows: Sequence[int] | None = None) -> Candidate:
        """Return a program to score on training rows that it does not show, or on all rows."""
        demos = {
            name: [*(self._current.get(name) or ()), *calls][-self._recipe.demonstrations :]
            for name in self._slots
            if (calls := [call for demo in member.demos for call in demo.calls.get(name, ())])
        }
        values = {**member.values, **demos}
        active = self._task.program.space.active(values)
        places = None if rows is None else tuple(row for row in rows if row not in member.shown)
        return Candidate(
            label=member.label if rows is None else f"{member.label}, on {len(places or ())} rows",
            assignment={name: value for name, value in values.items() if name in active},
            shown=member.shown,
            rows=places,
            is_final=rows is None,
        )


def _spread(runs: Sequence[_Run]) -> tuple[float, float]:
    """Return by how much runs of one row differ, then the score of the best."""
    scores = [max(run.score, 0.0) for run in runs]
    return max(scores) - min(scores), max(scores)
