"""Runs the candidates and questions of a search."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dspex.errors import DspexError, VariableError
from dspex.execution.clients import LanguageModel
from dspex.execution.context import RunContext
from dspex.execution.modules import Module
from dspex.learning.evaluation import Dataset, Metric, Report, Row, aevaluate
from dspex.learning.evaluation.judge import JudgeMetric
from dspex.learning.optimizers.call_recorder import CallRecorder
from dspex.learning.optimizers.proposer import Call, Candidate, SearchQuestion, SearchReply
from dspex.learning.optimizers.reply_store import (
    ReplayedModel,
    ReplyStore,
    SearchStoppedError,
    Truncation,
)


@dataclass(frozen=True, slots=True)
class Run:
    """A candidate that has been run: its report, and the calls of each row if it is traced."""

    report: Report
    calls: Sequence[Sequence[Call]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """Runs a program with the values of candidates; all models answer through `replies`.

    `context` is that of a separate run. Modules are only changed through `assign` and `bind`.
    """

    module: Module
    metrics: Mapping[str, Metric | JudgeMetric]
    context: RunContext
    replies: ReplyStore
    concurrency: int

    async def run(
        self, candidate: Candidate, rows: Dataset, *, concurrency: int | None = None
    ) -> Run | None:
        """Score a candidate on `rows`; None if the search ended meanwhile."""
        try:
            module = self._module(candidate)
        except VariableError as error:
            if "constraint" not in error.context or not candidate.assignment:
                raise
            # the optimizer did not know the constraint: count it as a failed candidate
            return Run(self._failed_report(rows, f"{type(error).__name__}: {error}"))
        if not len(rows):
            return Run(self._failed_report(rows))
        recorder = CallRecorder(module) if candidate.is_traced else None
        truncation = Truncation()
        report = await aevaluate(
            recorder or module,
            rows,
            self.metrics,
            context=self._context(candidate.salt, truncation),
            concurrency=concurrency or self.concurrency,
        )
        if truncation.is_cut:
            return None
        return Run(report, recorder.calls_of(report) if recorder is not None else ())

    async def evaluate(self, candidate: Candidate, rows: Dataset) -> Report:
        """Score a candidate on `rows`, whether or not the search ends meanwhile."""
        return await aevaluate(
            self._module(candidate),
            rows,
            self.metrics,
            context=self._context(candidate.salt),
            concurrency=self.concurrency,
        )

    async def reply(self, question: SearchQuestion) -> SearchReply | None:
        """Run the module of a question; None if the search ended meanwhile."""
        try:
            prediction = await question.module.acall(
                self._context(question.salt), **question.inputs
            )
        except SearchStoppedError:
            return None
        except DspexError as error:
            return SearchReply(
                question=question, outputs=None, error=f"{type(error).__name__}: {error}"
            )
        return SearchReply(question=question, outputs=prediction.to_dict())

    def _module(self, candidate: Candidate) -> Module:
        module = self.module.assign(candidate.assignment)
        if candidate.temperature is not None:
            for _, part in module.named_modules():
                if part.takes("temperature"):
                    part.bind("temperature", candidate.temperature)
        return module

    def _context(self, salt: str, truncation: Truncation | None = None) -> RunContext:
        def wrap(model: LanguageModel) -> LanguageModel:
            if isinstance(model, ReplayedModel):  # a module has taken it from this context
                return model
            return ReplayedModel(model, self.replies, salt=salt, truncation=truncation)

        return self.context.with_wrapper(wrap)

    def _failed_report(self, rows: Dataset, error: str = "") -> Report:
        """Return the report of a candidate that could not be run."""
        failed = tuple(
            Row(index=index, example=example, error=error) for index, example in enumerate(rows)
        )
        return Report(
            rows=failed,
            metrics=tuple(self.metrics),
            dataset=rows.name,
            checksum=rows.checksum,
            started_at=self.context.clock.now(),
        )
