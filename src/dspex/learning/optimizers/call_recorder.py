"""A module wrapper that records the calls of each predictor."""

from collections.abc import Mapping
from typing import Any

from dspex.execution.context import RunContext, current
from dspex.execution.modules import Module
from dspex.language.records import Prediction
from dspex.language.signatures import Signature
from dspex.learning.evaluation import Report
from dspex.learning.optimizers.proposer import Call


class CallRecorder(Module):
    """Runs a module and keeps the calls of its predictors by trace id."""

    def __init__(self, module: Module) -> None:
        """Take the module to run."""
        self.module = module
        self.calls: dict[str, list[Call]] = {}

    def contract(self) -> Signature:
        """Return the signature of the module."""
        return self.module.contract()

    async def acall(self, context: RunContext | None = None, /, **inputs: Any) -> Prediction:
        """Run the module."""
        calls: list[Call] = []

        def note(path: str, inputs: Mapping[str, object], outputs: Mapping[str, object]) -> None:
            calls.append(Call(path=path, inputs=dict(inputs), outputs=dict(outputs)))

        listening = (context or current()).listening(on_call=note)
        prediction = await self.module.acall(listening, **inputs)
        self.calls[prediction.trace.trace_id] = calls
        return prediction

    def calls_of(self, report: Report) -> list[list[Call]]:
        """Return the calls of each row of a report."""
        return [self.calls.get(row.trace_id, []) for row in report.rows]
