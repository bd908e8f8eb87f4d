"""Runs that note what each predictor was given and what it answered."""

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import Any

from dspex.execution.adapters import Adapter, Prompt
from dspex.execution.context import RunContext
from dspex.execution.modules import Module, Predict
from dspex.language.records import Prediction
from dspex.language.signatures import Signature
from dspex.learning.optimizers.proposer import Call

_calls: ContextVar[list[Call] | None] = ContextVar("dspex_calls", default=None)
_inputs: ContextVar[Mapping[str, Any] | None] = ContextVar("dspex_inputs", default=None)


class _NotingAdapter:
    """Wraps the adapter of one predictor: what it renders and reads is noted for the run under way in this task."""

    def __init__(self, adapter: Adapter, path: str) -> None:
        self.adapter = adapter
        self.path = path
        self.name = adapter.name

    def render(self, signature: Signature, demos: Sequence[Mapping[str, Any]], inputs: Mapping[str, Any]) -> Prompt:
        _inputs.set(dict(inputs))
        return self.adapter.render(signature, demos, inputs)

    def parse(self, signature: Signature, reply: str) -> dict[str, Any]:
        outputs = self.adapter.parse(signature, reply)
        noted, inputs = _calls.get(), _inputs.get()
        if noted is not None and inputs is not None:
            noted.append(Call(path=self.path, inputs=inputs, outputs=outputs))
        return outputs


class Recorded(Module):
    """Runs a module and keeps the calls of its predictors by the id of the run's trace.

    The second call that follows an unreadable reply is not noted.
    """

    def __init__(self, module: Module, context: RunContext) -> None:
        """Take a module that nobody else uses."""
        self.module = module
        self.calls: dict[str, list[Call]] = {}
        for path, part in module.named_modules():
            if isinstance(part, Predict):
                part.adapter = _NotingAdapter(context.adapter_for(part.adapter, context.model_for(part.model)), path)

    def contract(self) -> Signature:
        """Return the signature of the module."""
        return self.module.contract()

    async def acall(self, context: RunContext | None = None, /, **inputs: Any) -> Prediction:  # noqa: ANN401
        """Run the module."""
        noted: list[Call] = []
        token = _calls.set(noted)
        try:
            prediction = await self.module.acall(context, **inputs)
        finally:
            _calls.reset(token)
        self.calls[prediction.trace.trace_id] = noted
        return prediction
