"""The first proposal of a search, rehearsed with invented results: how many runs it takes.

Proposers are pure, so an optimizer can be started and asked without any cost.
"""

from collections.abc import Callable
from dataclasses import dataclass

from dspex.language.programs import Program
from dspex.learning.evaluation import Dataset, Report, Row
from dspex.learning.optimizers.goal import Goal
from dspex.learning.optimizers.proposer import (
    Ask,
    Call,
    Candidate,
    Optimizer,
    Result,
    SearchQuestion,
    SearchReply,
    Task,
    Trial,
)

_MOST = 1_000_000  # runs, if an optimizer never proposes anything


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """Rehearses searches with one optimizer.

    `rows` returns the rows that a candidate is scored on.
    """

    optimizer: Optimizer
    task: Task
    goal: Goal
    rows: Callable[[Candidate], Dataset]

    def runs(self) -> tuple[int, int] | None:
        """Return the fewest and the most runs up to the first proposal that may win.

        They are those of a program that answers almost every row rightly, each trial better than
        the one before, and of one that answers none.
        Questions count as runs. None if the optimizer proposes nothing.
        """
        counts = [self._count(is_right=is_right) for is_right in (True, False)]
        numbers = [count for count in counts if count is not None]
        fewest = min((different for different, _ in numbers), default=0)
        return (fewest, max(runs for _, runs in numbers)) if numbers else None

    def _count(self, *, is_right: bool) -> tuple[int, int] | None:
        """Return the runs that differ from each other, and all runs."""
        proposer, runs, number = self.optimizer.start(self.task), 0, 0
        unchanged = Candidate(label="", assignment={})
        known = self._keys(unchanged)
        before = len(known)
        while runs < _MOST and (asks := proposer.ask(1)):
            results: list[Result] = []
            for item in asks:
                number += 1
                known |= {str(number)} if isinstance(item, SearchQuestion) else self._keys(item)
                runs += 1 if isinstance(item, SearchQuestion) else len(self.rows(item))
                if isinstance(item, Candidate) and item.is_final:
                    return len(known) - before, runs
                results.append(self._result(item, number, is_right=is_right))
            proposer.tell(results)
        return None

    def _keys(self, candidate: Candidate) -> set[str]:
        """Return what tells the runs of a candidate apart from others, for each of its rows."""
        run = repr((sorted(candidate.assignment.items()), candidate.temperature, candidate.salt))
        return {f"{run} {example!r}" for example in self.rows(candidate)}

    def _result(self, item: Ask, number: int, *, is_right: bool) -> Result:
        if isinstance(item, SearchQuestion):
            fields = item.module.contract().output_fields
            return SearchReply(question=item, outputs={name: f"{name} {number}" for name in fields})
        rows = self.rows(item)
        score = 1 - 0.01 / (number + 1) if is_right else 0.0
        report = self._report(rows, score)
        return Trial(
            number=number,
            candidate=item,
            report=report,
            score=score if len(rows) else None,
            figures=self.goal.figures(report),
            calls=[_calls(self.task.program, row) for row in report.rows] if item.is_traced else (),
        )

    def _report(self, rows: Dataset, score: float) -> Report:
        fields = self.task.program.signature.output_fields
        scores = dict.fromkeys(self.goal.metrics, score)
        return Report(
            rows=tuple(
                Row(
                    index=index,
                    example=example,
                    outputs={name: example[name] for name in fields if name in example},
                    scores=scores,
                )
                for index, example in enumerate(rows)
            ),
            metrics=self.goal.metrics,
            dataset=rows.name,
            checksum=rows.checksum,
        )


def _calls(program: Program, row: Row) -> list[Call]:
    """Return one call of each predictor, with the values of the row that it has."""
    values = {**row.example, **(row.outputs or {})}
    return [
        Call(
            path=node.id,
            inputs={name: values.get(name) for name in node.signature.input_fields},
            outputs={name: values.get(name) for name in node.signature.output_fields},
        )
        for node in program.root.walk()
        if node.signature is not None
    ]
