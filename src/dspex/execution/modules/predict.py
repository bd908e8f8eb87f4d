"""Predict: the module that calls a model once."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import msgspec
from typing_extensions import TypeVar

from dspex.arguments import checks_names
from dspex.error_text import shorten
from dspex.errors import AdapterError, CheckError, DefinitionError
from dspex.execution.adapters import Adapter, JSONAdapter, Prompt, ToolAdapter
from dspex.execution.adapters.registry import ADAPTERS, JSON, find_adapter
from dspex.execution.clients import LanguageModel, Request, ToolSpec
from dspex.execution.clients.embedder import Embedder
from dspex.execution.context import RunContext, current
from dspex.execution.frame import TraceRecorder
from dspex.execution.modules.attempts import attempt_context, check_count, together
from dspex.execution.modules.citations import CitedCall, citation_plan, cite
from dspex.execution.modules.code import checks_config, with_code
from dspex.execution.modules.demonstrations import Demonstrations
from dspex.execution.modules.model_call import (
    ModelCall,
    after_fallback,
    enforce_checks,
    repair_request,
    report_outputs,
)
from dspex.execution.modules.module import Module
from dspex.execution.modules.module_kind import ModuleKind, NodeBuilder
from dspex.execution.modules.nearest import Demo, NearestDemos, nearest_problem
from dspex.execution.modules.settings import (
    SETTINGS,
    demos_problem,
    described_field,
    model_string,
    normalize_setting,
    setting_problem,
)
from dspex.execution.modules.slot import Slot
from dspex.language.programs import ROOT, ModulePath, Node
from dspex.language.records import AdapterFallback, Prediction, Trace
from dspex.language.signatures import Signature
from dspex.language.signatures.codec import plain
from dspex.language.variables import Variable

SignatureT = TypeVar("SignatureT", bound=Signature, default=Any, covariant=True)
"""A signature class, which tells type checkers the outputs of a module; `Any` for other forms."""

_ROOT = str(ROOT)


@checks_names
class Predict(Module[SignatureT]):
    """Renders signature, demonstrations and inputs, calls the model, and parses typed outputs.

    A reply with invalid values is sent back with the errors, once by default. A chat reply that
    cannot be parsed is requested once more as JSON; the prediction records it in `.fallback`.

    Settings may be variables: `Predict(QA, temperature=Float(0, 1.5))`. If a setting is None, the
    model uses its own default.

    Args:
        signature: class, instance or string form.
        demos: examples for the model, each with inputs and outputs by field name; texts, such
            as those of a csv, are parsed by the types of the signature.
        model: a model or model string; by default the model of the context.
        adapter: "chat", "json", "tools", "xml" or an adapter object; by default that of the
            context.
        temperature: the randomness of the reply, from 0 (always the most likely token).
        max_tokens: the maximum number of tokens in the reply.
        top_p: sample only from the most likely tokens with this probability together, from 0 to 1.
        stop: texts that end the reply.
        seed: the seed of the sampling, if the model accepts one; by default that of the context.
        repairs: how often a reply with invalid values is sent back with the errors.
        n: the number of answers. The prediction is the first one; all are in its `completions`.
            Each is a request of its own, a new one even behind a cache. A stream has the first.
        nearest: how many demonstrations are shown: those whose inputs are nearest to the inputs of
            the call. By default all are.
        embedder: an embedder or its string, for `nearest`; by default that of the context.

    Raises:
        SignatureError: the signature is invalid.
        VariableError: a variable has a value that its slot does not accept.
        DefinitionError: a setting has an invalid value, a demonstration has no field of the
            signature, or the signature was read from data and has checks.
    """

    def __init__(
        self,
        signature: type[SignatureT] | Signature | str,
        *,
        demos: Iterable[Mapping[str, Any]] = (),
        model: LanguageModel | str | Variable | None = None,
        adapter: Adapter | str | Variable | None = None,
        temperature: float | Variable | None = None,
        max_tokens: int | Variable | None = None,
        top_p: float | Variable | None = None,
        stop: str | Sequence[str] | Variable | None = None,
        seed: int | Variable | None = None,
        repairs: int = 1,
        n: int = 1,
        nearest: int | Variable | None = None,
        embedder: Embedder | str | Variable | None = None,
    ) -> None:
        values: dict[str, Any] = {
            "model": model,
            "adapter": adapter,
            "temperature": temperature,
            "max_tokens": max_tokens,
            "top_p": top_p,
            "stop": stop,
            "seed": seed,
            "nearest": nearest,
            "embedder": embedder,
        }
        self._declared = {
            name: value for name, value in values.items() if isinstance(value, Variable)
        }
        values |= {name: variable.default for name, variable in self._declared.items()}
        own_model, own_adapter = values.pop("model"), values.pop("adapter")
        self.nearest: int | None = values.pop("nearest")
        self.embedder: Embedder | str | None = values.pop("embedder")
        self._nearest_demos = NearestDemos()
        self.signature: Signature = with_code(Signature.of(signature))
        citation_plan(self.signature)  # raises if there is nothing to cite
        self.demos = demos
        self.model: LanguageModel | str | None = own_model
        self.adapter = find_adapter(own_adapter)
        self.repairs = check_count("repairs", repairs, least=0)
        self.n = check_count("n", n)
        self.foreign: Mapping[str, Any] = {}  # of an imported dspy state, without a counterpart
        self.settings = {
            name: normalize_setting(name, value)
            for name, value in values.items()
            if value is not None
        }
        settings = {"nearest": self.nearest, "embedder": self.embedder, **self.settings}
        for slot, value in settings.items():
            if expected := self.unfit(slot, value):
                raise DefinitionError(f"`{slot}` of Predict takes {expected}")
        for slot, variable in self._declared.items():
            self.check_variable(variable, slot, slot)

    @property
    def demos(self) -> list[dict[str, Any]]:
        """The demonstrations. New ones are checked as the argument of the constructor is."""
        self._demos.signature = self.signature  # which may be another one since
        return self._demos

    @demos.setter
    def demos(self, demos: Iterable[Mapping[str, Any]]) -> None:
        self._demos = Demonstrations.checked(self.signature, demos)

    def with_signature(self, signature: Signature) -> Self:
        """Return a copy with another signature; settings, demonstrations and variables stay."""
        predictor = self._copy()
        predictor.signature = signature
        return predictor

    def __repr__(self) -> str:
        inputs, outputs = map(
            ", ".join, (self.signature.input_fields, self.signature.output_fields)
        )
        return f"<{type(self).__name__} {inputs} -> {outputs}>"

    def contract(self) -> Signature:
        """Return the signature."""
        return self.signature

    def paths_by_id(self) -> Mapping[int, str]:
        """Return the path of this predictor, which has no parts."""
        return {id(self): _ROOT}

    def node(self, path: ModulePath) -> Node:
        """Return this predictor as data."""
        if type(self) is not Predict:
            raise DefinitionError(
                f"{type(self).__name__} at {str(path)!r} extends Predict; use a Predict inside a "
                "Module instead"
            )
        return self._node(path)

    def _node(self, path: ModulePath) -> Node:
        config = {**self._config(path), **checks_config(self.signature)}
        return Node(id=str(path), kind=KIND.name, signature=self.signature, config=config)

    def _config(self, path: ModulePath) -> dict[str, Any]:
        config: dict[str, Any] = plain(self.settings)
        if self.repairs != 1:
            config["repairs"] = self.repairs
        if self.n != 1:
            config["n"] = self.n
        if self.nearest is not None:
            config["nearest"] = int(self.nearest)
        if self.embedder is not None:
            config["embedder"] = model_string(path, self.embedder)
        if self.model is not None:
            config["model"] = model_string(path, self.model)
        if self.adapter is not None:
            if not ADAPTERS.holds(self.adapter):
                names = ", ".join(ADAPTERS)
                raise DefinitionError(
                    f"the adapter of {str(path)!r} is a custom object; to store it, register it "
                    f"with dspex.adapters.register_adapter, or set one by name ({names})"
                )
            config["adapter"] = self.adapter.name
        return config

    def state(self) -> Mapping[str, Any]:
        """Return signature, demonstrations and settings."""
        return {
            "signature": self.signature.to_dict(),
            "demos": plain(self.demos),
            "config": self._config(ROOT),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Load signature, demonstrations and settings; model or adapter objects and checks stay."""
        stored = Signature.from_dict(state["signature"])
        current = self.signature.fields  # has the code of types and checks, a file only their names
        fields = [
            replace(
                field,
                type=current[name].type
                if name in current and current[name].type == field.type
                else field.type,
                checks=current[name].checks if name in current else (),
            )
            for name, field in stored.fields.items()
        ]
        self.signature = Signature.from_fields(stored.name, fields, stored.instructions)
        self._demos = Demonstrations(self.signature, state["demos"])
        config = dict(state["config"])
        model, adapter = config.pop("model", None), config.pop("adapter", None)
        if self.model is None or isinstance(self.model, str):
            self.model = model
        if self.adapter is None or adapter is not None:
            self.adapter = find_adapter(adapter)
        embedder, self.nearest = config.pop("embedder", None), config.pop("nearest", None)
        if self.embedder is None or isinstance(self.embedder, str):
            self.embedder = embedder
        self.repairs, self.n = config.pop("repairs", 1), config.pop("n", 1)
        self.settings = config

    def slots(self) -> Mapping[str, Slot]:
        """Return the slots of instructions (part of the signature) and demonstrations."""
        return {"instructions": Slot("text"), "demos": Slot("examples", plain(self.demos) or None)}

    def bind(self, slot: str, value: Any) -> None:
        """Set instructions, demonstrations, model, adapter, a setting or a field description."""
        if slot == "demos":
            self._demos = Demonstrations(self.signature, value)
        elif slot == "instructions":
            self.signature = self.signature.with_instructions(value)
        elif slot in {"model", "nearest", "embedder"}:
            setattr(self, slot, value)
        elif slot == "adapter":
            self.adapter = find_adapter(value)
        elif slot in SETTINGS:
            others = {name: setting for name, setting in self.settings.items() if name != slot}
            self.settings = (
                others if value is None else {**others, slot: normalize_setting(slot, value)}
            )
        elif (name := described_field(slot)) in self.signature.fields:
            self.signature = self.signature.with_field(name, desc=value)
        else:
            super().bind(slot, value)

    def setting(self, slot: str) -> Any:
        """Return a setting, model string or adapter name of this predictor; None if it has none."""
        if slot in {"model", "embedder"}:
            value = getattr(self, slot)
            return value if isinstance(value, str) else None
        if slot == "nearest":
            return self.nearest
        if slot == "adapter":
            return self.adapter.name if self.adapter is not None else None
        return self.settings.get(slot)

    def takes(self, slot: str) -> bool:
        """Return whether `bind` accepts this slot."""
        slots = {"demos", "instructions", "model", "adapter", "nearest", "embedder", *SETTINGS}
        return slot in slots or described_field(slot) in self.signature.fields

    def unfit(self, slot: str, value: object) -> str:
        """Return what a slot accepts instead of `value`, or an empty text if the value fits."""
        if slot in SETTINGS or slot in {"model", "adapter"}:
            return setting_problem(slot, value)
        if slot in {"nearest", "embedder"}:
            return nearest_problem(slot, value)
        if slot == "demos":
            return demos_problem(self.signature, value)
        is_text = slot == "instructions" or described_field(slot)
        return f"text, not {shorten(value)}" if is_text and not isinstance(value, str) else ""

    def own_variables(self, path: ModulePath) -> Sequence[Variable]:
        """Return the inline variables, named by their paths unless they have names."""
        return [
            variable.named(path.place(slot), path.place(slot))
            for slot, variable in self._declared.items()
        ]

    def shared(self) -> Sequence[object]:
        """Return signature, model, adapter, embedder and the vectors of demonstrations."""
        return (self.signature, self.model, self.adapter, self.embedder, self._nearest_demos)

    def render(self, inputs: Mapping[str, Any], context: RunContext) -> tuple[Prompt, Adapter]:
        """Return the prompt for `inputs` and its adapter, without sending it.

        With `nearest`, it has the first demonstrations instead: nothing is embedded.

        Raises:
            InputError: the inputs are invalid.
            ConfigurationError: no model is set (its capabilities determine the layout).
        """
        adapter = context.adapter_for(self.adapter, context.model_for(self.model))
        values = self.signature.input_validator(inputs)
        cited, demos = cite(self.signature, values), self._demos[: self.nearest]
        return self._prompt(adapter, values, cited, demos=demos), adapter

    async def acall(
        self, context: RunContext | None = None, /, **inputs: Any
    ) -> Prediction[SignatureT]:
        """Call the model; see `Module.acall`."""
        # one function, few objects and no context variable: thousands of these run at once
        context = current() if context is None else self.context_of(context)
        if context.is_bounded or context.is_recorded:
            return await self.run_outermost(context, inputs)
        frame = context.frame
        memo = frame.memo
        if memo is not None:
            if (prediction := memo.recall(self, inputs)) is not None:
                return prediction
            if objections := memo.objections(self, inputs):
                frame = msgspec.structs.replace(frame, objections=objections)
                context = msgspec.structs.replace(context, frame=frame)
        run = frame.recorder or TraceRecorder(context.observer, context.clock, {id(self): _ROOT})
        first = len(run.spans)
        path = run.paths.get(id(self), "Predict")
        span = run.begin("module", "Predict", parent_id=frame.span_id, path=path)
        signature = self.signature
        try:
            values = signature.input_validator(inputs)
            model = context.model_for(self.model)
            adapter = context.adapter_for(self.adapter, model)
            cited = cite(signature, values)
            call = ModelCall(context, span, model, adapter, cited=cited, inputs=values)
            call.demos = self._demos if self.nearest is None else await self._nearest(call)
            prompt = self._prompt(adapter, values, cited, demos=call.demos)
            request = self._request(prompt, model, seed=context.seed)
            if frame.objections or frame.advice or frame.emit is not None:
                shape = signature if cited is None else cited.signature
                request = await call.start(request, shape)
            if self.n == 1:
                outputs = await self._outputs(call, request, values)
            else:
                answers = await self._answers(call, request, values)
                outputs = answers[0]
        except BaseException as error:
            span.end(error=error)
            raise
        span.end(attributes=call.attributes())
        if frame.emit is not None or frame.on_call is not None:
            await report_outputs(frame, path, inputs=values, outputs=outputs)
        trace = (
            run.trace(span.id, first=first)
            if frame.recorder
            else Trace(run.trace_id, tuple(run.spans))
        )
        prediction = Prediction.of_run(outputs, trace, fallback=call.fallback)
        if self.n != 1:
            prediction = prediction.with_completions(answers)
        return prediction if memo is None else memo.record(self, inputs, prediction)

    async def _answers(
        self, first: ModelCall, request: Request, values: Mapping[str, Any]
    ) -> list[Mapping[str, Any]]:
        """Return the outputs of `n` answers, without those that failed."""
        calls = []
        for number in range(self.n):
            context = attempt_context(
                number, of=self.n, context=first.context, is_silent=number > 0
            )
            calls.append(
                msgspec.structs.replace(first, context=context, model=context.model_for(self.model))
            )
        answers = await together([self._outputs(call, request, values) for call in calls])
        first.fallback, first.repairs, first.refusals = (
            calls[0].fallback,
            sum(call.repairs for call in calls),
            sum(call.refusals for call in calls),
        )
        return answers

    async def _outputs(
        self, call: ModelCall, request: Request, values: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """Return the outputs of one answer, after repairs, retries and the fallback."""
        while True:
            reply = await call.send(request)
            try:
                outputs = call.parse(self.signature, reply)
                enforce_checks(self.signature, outputs, call.note)
            except (AdapterError, CheckError) as error:
                request = self._next_request(call, request, reply, values=values, error=error)
            else:
                return outputs

    def _next_request(
        self,
        call: ModelCall,
        request: Request,
        reply: str,
        *,
        values: Mapping[str, Any],
        error: AdapterError | CheckError,
    ) -> Request:
        """Return the next request after an invalid reply; raise `error` if no attempt is left."""
        if isinstance(error, CheckError):
            return call.retry_after_check(request, reply, error=error)
        if error.fields and call.repairs < self.repairs:
            call.repairs += 1
            call.report_fallback(f"repair: {error.message}")
            return repair_request(request, reply, error=error)
        if call.fallback is not None:
            raise after_fallback(error, call.fallback, call.unfit) from error
        if isinstance(call.adapter, JSONAdapter | ToolAdapter):
            raise error
        call.unfit = error.fields
        call.fallback = AdapterFallback(
            source=call.adapter.name, target=JSON.name, reason=error.message
        )
        call.report_fallback(error.message)
        call.adapter = JSON
        prompt = self._prompt(JSON, values, call.cited, demos=call.demos)
        return call.with_objections(self._request(prompt, call.model, seed=call.context.seed))

    async def _nearest(self, call: ModelCall) -> Sequence[Demo]:
        """Return the demonstrations that are nearest to the inputs of a call."""
        return await self._nearest_demos.choose(
            self._demos,
            call.inputs,
            signature=self.signature,
            embedder=call.context.embedder_for(self.embedder or "default"),
            count=int(self.nearest or 0),
            parent=call.span,
        )

    def _prompt(
        self,
        adapter: Adapter,
        values: Mapping[str, Any],
        cited: CitedCall | None,
        *,
        demos: Sequence[Demo],
    ) -> Prompt:
        if cited is None:
            return adapter.render(self.signature, demos, values)
        return adapter.render(
            cited.signature, [cited.plan.demo(demo) for demo in demos], cited.inputs
        )

    def _request(self, prompt: Prompt, model: LanguageModel, *, seed: int | None) -> Request:
        if not self.settings and seed is None and prompt.is_plain:
            return Request(messages=prompt.messages)
        capabilities = model.capabilities
        settings = {"seed": seed, **self.settings}
        if "seed" not in capabilities:
            settings.pop("seed")
        if prompt.answer_tool is not None and "tools" in capabilities:
            tool = ToolSpec(**prompt.answer_tool)
            return Request(
                messages=prompt.messages, tools=(tool,), tool_choice=tool.name, **settings
            )
        return Request(
            messages=prompt.messages,
            response_schema=prompt.response_schema if "response_schema" in capabilities else None,
            json_mode=prompt.json_mode and "json_mode" in capabilities,
            **settings,
        )


def _build(node: Node, builder: NodeBuilder) -> Predict:
    config = {name: value for name, value in node.config.items() if name != "checks"}
    return Predict(builder.signature(node), **config)


KIND = ModuleKind(
    name="predict",
    summary="calls the model once",
    build=_build,
    create=lambda signature, settings, name: Predict(signature, **settings).to_program(name),
    settings=("model", "adapter", *SETTINGS, "demos", "repairs", "n", "nearest", "embedder"),
    backends=frozenset({"native", "dspy"}),
    dspy_class="Predict",
    replies_with_outputs=True,
)
