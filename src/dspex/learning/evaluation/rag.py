"""The evaluation of RAG programs: retrieval and answer apart, and the kind of each error."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Any, Literal

from dspex.arguments import checks_names
from dspex.execution.context import RunContext
from dspex.execution.modules import Module
from dspex.language.programs import Program
from dspex.learning.evaluation.dataset import Dataset
from dspex.learning.evaluation.evaluate import aevaluate
from dspex.learning.evaluation.metric import Metric
from dspex.learning.evaluation.metrics import f1
from dspex.learning.evaluation.report import Report, Row
from dspex.learning.evaluation.retrieval_metrics import hit_at
from dspex.sync import run

RagCase = Literal["right", "right without the passage", "not retrieved", "ignored", "failed"]
_ANSWER, _RETRIEVAL = "answer", "retrieved"


@dataclass(frozen=True)
class RagReport:
    """A report with the metrics "answer" and "retrieved", and the case of each row.

    An answer is right from `threshold` on. A wrong one is "not retrieved" if no relevant passage
    reached the model, and "ignored" if one did.
    """

    report: Report
    threshold: float

    @cached_property
    def cases(self) -> tuple[RagCase, ...]:
        """The case of each row of the report."""
        return tuple(self._case(row) for row in self.report.rows)

    @property
    def counts(self) -> dict[RagCase, int]:
        """How many rows each case has, the most frequent first."""
        return dict(Counter(self.cases).most_common())

    def rows(self, case: RagCase) -> list[Row]:
        """Return the rows of a case."""
        pairs = zip(self.report.rows, self.cases, strict=True)
        return [row for row, row_case in pairs if row_case == case]

    def _case(self, row: Row) -> RagCase:
        if row.error is not None:
            return "failed"
        is_right, is_retrieved = row.scores[_ANSWER] >= self.threshold, row.scores[_RETRIEVAL] > 0
        if is_right:
            return "right" if is_retrieved else "right without the passage"
        return "ignored" if is_retrieved else "not retrieved"

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON-ready data, with `case` in each row."""
        data = self.report.to_dict()
        for row, case in zip(data["rows"], self.cases, strict=True):
            row["case"] = case
        return {**data, "cases": self.counts}

    def _repr_html_(self) -> str:
        module = import_module("dspex.learning.evaluation.representation")
        markup: str = module.rag_report_html(self)
        return markup

    def __repr__(self) -> str:
        cases = ", ".join(f"{count} {case}" for case, count in self.counts.items())
        retrieved = self.report.mean_of(_RETRIEVAL)
        return f"RagReport(answer {self.report.mean:.2f}, retrieved {retrieved:.2f}: {cases})"


@checks_names
async def aevaluate_rag(
    program: Module | Program,
    dataset: Dataset,
    *,
    answer: Metric = f1,
    threshold: float = 0.5,
    more: Mapping[str, Metric] | None = None,
    context: RunContext | None = None,
    concurrency: int = 8,
) -> RagReport:
    """Score answers and retrieval of a program, and say what went wrong in each row.

    Args:
        program: a program with the output `passages`, such as a `RAG`.
        dataset: examples with the expected outputs and what is `relevant`.
        answer: the metric of the answer.
        threshold: the score from which an answer is right.
        more: other metrics by name, such as `recall_at(5)` or `supported`.
        context: the context of all runs; by default the current one.
        concurrency: how many examples run at once.

    Raises:
        DefinitionError: see `aevaluate`.
    """
    metrics = {_ANSWER: answer, _RETRIEVAL: hit_at(10**9), **(more or {})}
    report = await aevaluate(program, dataset, metrics, context=context, concurrency=concurrency)
    return RagReport(report, threshold)


@checks_names
def evaluate_rag(
    program: Module | Program,
    dataset: Dataset,
    *,
    answer: Metric = f1,
    threshold: float = 0.5,
    more: Mapping[str, Metric] | None = None,
    context: RunContext | None = None,
    concurrency: int = 8,
) -> RagReport:
    """Score answers and retrieval; the synchronous form of `aevaluate_rag`."""
    return run(
        aevaluate_rag(
            program,
            dataset,
            answer=answer,
            threshold=threshold,
            more=more,
            context=context,
            concurrency=concurrency,
        )
    )
