"""Runs that note what each predictor was given and what it answered."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dspex.execution.context import RunContext, current
from dspex.execution.modules import Module
from dspex.language.records import Prediction
from dspex.language.signatures import Signature
from dspex.learning.optimizers.proposer import Call


class Recorded(Module):
    """Runs a module and keeps the calls of its predictors by the id of the run's trace."""

    def __init__(self, module: Module) -> None:
        """Take what is run."""
        self.module = module
        self.calls: dict[str, list[Call]] = {}

    def contract(self) -> Signature:
        """Return the signature of the module."""
        return self.module.contract()

    async def acall(self, context: RunContext | None = None, /, **inputs: Any) -> Prediction:  # noqa: ANN401
        """Run the module."""
        noted: list[Call] = []

        def note(path: str, given: Mapping[str, object], found: Mapping[str, object]) -> None:
            noted.append(Call(path=path, inputs=dict(given), outputs=dict(found)))

        prediction = await self.module.acall(replace(context or current(), note=note), **inputs)
        self.calls[prediction.trace.trace_id] = noted
        return prediction
