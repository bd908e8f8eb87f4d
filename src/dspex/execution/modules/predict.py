"""The module that asks a model once."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dspex.errors import AdapterError, DefinitionError, suggest
from dspex.execution.adapters import Adapter, JSONAdapter, Prompt
from dspex.execution.clients import LanguageModel, Request
from dspex.execution.context import RunContext, adapter_named, payload
from dspex.execution.modules.module import Module
from dspex.language.records import Fallback
from dspex.language.signatures import Signature, SignatureLike
from dspex.telemetry import Event

SETTINGS = ("temperature", "max_tokens", "top_p", "stop", "seed")
_FALLBACK = JSONAdapter()


@dataclass(frozen=True, slots=True)
class _Tried:
    outputs: dict[str, Any] = field(default_factory=dict)
    error: AdapterError | None = None


class Predict(Module):
    """Renders its signature, demonstrations and inputs, asks the model, and reads the reply as typed outputs.

    A reply that a chat layout cannot be read from is asked for once more as JSON; the prediction says so in
    `.fallback`.
    """

    def __init__(
        self,
        signature: SignatureLike,
        *,
        demos: Iterable[Mapping[str, Any]] = (),
        model: LanguageModel | str | None = None,
        adapter: Adapter | str | None = None,
        **settings: Any,  # noqa: ANN401  # named and checked below
    ) -> None:
        """Take the contract, and what is particular to this module.

        Args:
            signature: class, instance or string form.
            demos: examples to show the model, each with inputs and outputs by field name.
            model: a model or model string of its own; the context's by default.
            adapter: "chat", "json" or an adapter of its own; the context's by default.
            settings: temperature, max_tokens (of the reply), top_p, stop (texts that end the reply), seed.

        Raises:
            SignatureError: the signature is declared wrongly.
            DefinitionError: there is no such setting.
        """
        for name in settings:
            if name not in SETTINGS:
                hint = suggest(name, SETTINGS)
                raise DefinitionError(f"Predict has no setting {name!r}.{hint} Settings are: {', '.join(SETTINGS)}")
        self.signature = Signature.of(signature)
        self.demos = [dict(demo) for demo in demos]
        self.model = model
        self.adapter = adapter_named(adapter)
        self.settings = {name: value for name, value in settings.items() if value is not None}

    def contract(self) -> Signature:
        """Return the signature."""
        return self.signature

    def _paths(self) -> Mapping[int, str]:
        return {id(self): "self"}

    def render(self, inputs: Mapping[str, Any], context: RunContext) -> tuple[Prompt, Adapter]:
        """Return what would be sent for `inputs`, and the adapter that lays it out; nothing is sent.

        Raises:
            InvalidError: the inputs do not fit.
            ConfigurationError: no model is set (its abilities decide about the layout).
        """
        adapter = context.adapter_for(self.adapter, context.model_for(self.model))
        return adapter.render(self.signature, self.demos, self.signature.input_validator(inputs)), adapter

    async def _run(
        self, context: RunContext, inputs: Mapping[str, Any]
    ) -> tuple[Mapping[str, object], Fallback | None]:
        values = self.signature.input_validator(inputs)
        model = context.model_for(self.model)
        adapter = context.adapter_for(self.adapter, model)
        tried = await self._ask(context, values, model=model, adapter=adapter)
        if tried.error is None:
            return tried.outputs, None
        if isinstance(adapter, JSONAdapter):
            raise tried.error
        fallback = Fallback(source=adapter.name, target=_FALLBACK.name, reason=tried.error.message)
        context.say(
            Event(
                name="fallback", message=fallback.reason, trace_id=None if context.run is None else context.run.trace_id
            )
        )
        second = await self._ask(context, values, model=model, adapter=_FALLBACK)
        if second.error is not None:
            raise second.error
        return second.outputs, fallback

    async def _ask(
        self, context: RunContext, values: Mapping[str, Any], *, model: LanguageModel, adapter: Adapter
    ) -> _Tried:
        prompt = adapter.render(self.signature, self.demos, values)
        reply = await self._complete(context, self._request(prompt, model, seed=context.seed), model)
        try:
            return _Tried(adapter.parse(self.signature, reply))
        except AdapterError as error:
            return _Tried(error=error)

    def _request(self, prompt: Prompt, model: LanguageModel, *, seed: int | None) -> Request:
        able = model.capabilities
        settings = {"seed": seed, **self.settings}
        if "seed" not in able:
            settings.pop("seed")
        return Request(
            messages=prompt.messages,
            response_schema=prompt.response_schema if "response_schema" in able else None,
            json_mode=prompt.json_mode and "json_mode" in able,
            **settings,
        )

    async def _complete(self, context: RunContext, request: Request, model: LanguageModel) -> str:
        run = context.run
        if run is None:
            raise DefinitionError("a module runs through its call or `acall`, not through its private methods")
        span = run.begin("model", model.name, parent_id=context.parent_id, path=context.path)
        if context.records_payloads:
            span.inputs = payload(request.messages)
        try:
            response = await model.complete(request)
        except BaseException as error:
            span.end(error=error)
            raise
        span.end(
            usage=response.usage.of_model(response.model),
            attributes={"finish_reason": response.finish_reason},
            outputs=payload(response.text) if context.records_payloads else None,
        )
        return response.text
