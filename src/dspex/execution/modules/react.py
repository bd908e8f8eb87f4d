"""ReAct: an agent that reasons, calls tools, and answers."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from dspex.arguments import checks_names
from dspex.errors import DefinitionError
from dspex.execution.adapters import Adapter
from dspex.execution.clients import LanguageModel, ToolSpec
from dspex.execution.context import current
from dspex.execution.modules.agent_loop import (
    FINISH,
    THOUGHT,
    TOOL_ARGUMENTS,
    TOOL_NAME,
    TRAJECTORY,
    NativeLoop,
    ToolCaller,
)
from dspex.execution.modules.agent_text import TextTrajectory, with_action_form
from dspex.execution.modules.attempts import check_count
from dspex.execution.modules.chain_of_thought import ChainOfThought
from dspex.execution.modules.code import checks_config
from dspex.execution.modules.module import Module
from dspex.execution.modules.module_kind import ModuleKind, NodeBuilder
from dspex.execution.modules.predict import Predict, SignatureT
from dspex.execution.modules.tool_data import code_of_tools, tool_config, tool_of
from dspex.execution.tools import Tool, ToolSet
from dspex.language.programs import Children, ModulePath, Node
from dspex.language.records import Prediction
from dspex.language.signatures import Signature
from dspex.language.variables import Variable

_TOOLS = "The tools are:"


@checks_names
class ReAct(Module[SignatureT]):
    """Works in turns: the model reasons, calls a tool, and reads its result, until it can answer.

    A model with the capability "tools" calls tools natively, and its typed answer is the last call.
    For other models the calls are text fields, or a line `Action[tool](arguments)`, and a final
    call extracts the answer from the trajectory. The calls of one turn run at once. If the
    conversation gets too long for the model, the oldest results are left out. The model observes
    the error of a tool (invalid arguments, no permission, failure, timeout), and the run continues.
    The predictors and their fields are named as in dspy. Source: Yao et al., "ReAct: Synergizing
    Reasoning and Acting in Language Models", 2022.

    `temperature`, `top_p`, `stop`, `seed` and `repairs` are those of `Predict` and apply to each
    request. To limit the length of one reply, set `max_tokens` of the predictors `react` and
    `extract.predict`.

    Args:
        signature: inputs and outputs of the whole agent.
        tools: tools and typed functions.
        max_turns: the maximum number of turns; then the model answers from the trajectory.
        max_tokens: the maximum number of tokens of all calls inside; above it, a `BudgetError`
            ends the run.
        max_usd: the maximum cost in dollars, in the same way.
        model: a model or model string; by default the model of the context.
        adapter: as for `Predict`; used for models that do not call tools natively.

    Raises:
        DefinitionError: a setting is invalid, a tool is named "finish", or two tools have the same
            name.
    """

    def __init__(
        self,
        signature: type[SignatureT] | Signature | str,
        tools: "Iterable[Tool | Callable[..., Any]] | ToolSet",
        *,
        max_turns: int = 10,
        max_tokens: int | None = None,
        max_usd: float | None = None,
        model: LanguageModel | str | Variable | None = None,
        adapter: Adapter | str | Variable | None = None,
        temperature: float | Variable | None = None,
        top_p: float | Variable | None = None,
        stop: str | Sequence[str] | Variable | None = None,
        seed: int | Variable | None = None,
        repairs: int = 1,
    ) -> None:
        self.signature = Signature.of(signature)
        self.tools = _check_tools(tools if isinstance(tools, ToolSet) else ToolSet(tools))
        self.max_turns = check_count("max_turns", max_turns)
        for name, limit in (("max_tokens", max_tokens), ("max_usd", max_usd)):
            if limit is not None and (not isinstance(limit, int | float) or limit <= 0):
                raise DefinitionError(f"`{name}` of ReAct is a number above 0, not {limit!r}")
        self.max_tokens = max_tokens
        self.max_usd = max_usd
        self.react = Predict(
            self._step_signature(),
            model=model,
            adapter=adapter,
            temperature=temperature,
            top_p=top_p,
            stop=stop,
            seed=seed,
            repairs=repairs,
        )
        self.extract = ChainOfThought(
            self._with_trajectory(self.signature),
            model=model,
            adapter=adapter,
            temperature=temperature,
            top_p=top_p,
            stop=stop,
            seed=seed,
            repairs=repairs,
        )

    async def forward(self, **inputs: Any) -> Prediction | Mapping[str, Any]:
        """Run until there is an answer; the output `trajectory` lists the steps.

        Each step has the thought, the tool, its arguments, the observation, the milliseconds and
        the error, if any.
        """
        values = self.signature.validate_inputs(inputs)
        model = current().model_for(self.react.model)
        caller = ToolCaller(self.tools, max_tokens=self.max_tokens, max_usd=self.max_usd)
        if "tools" in model.capabilities:
            outputs = await self._native_loop(caller, model).run(
                values, turns=self.max_turns, demos=[*self.react.demos, *self.extract.predict.demos]
            )
        else:
            outputs = await self._run_in_text(values, caller)
        return {**outputs, **({} if TRAJECTORY in outputs else {TRAJECTORY: caller.steps})}

    def _native_loop(self, caller: ToolCaller, model: LanguageModel) -> NativeLoop:
        instructions = self.react.signature.instructions.split(_TOOLS)[0]
        settings = self.react.settings
        recorder = current().frame.recorder
        return NativeLoop(
            self.signature,
            caller,
            model=model,
            instructions=instructions,
            settings=settings,
            path="" if recorder is None else recorder.paths.get(id(self.react), ""),
        )

    async def _run_in_text(
        self, values: Mapping[str, Any], caller: ToolCaller
    ) -> Mapping[str, Any]:
        trajectory = TextTrajectory()
        context = with_action_form(current(), self.react.model, self.react.adapter)
        for _ in range(self.max_turns):
            caller.check_limits()
            step = await trajectory.ask(self.react, context, values)
            name, arguments = step.next_tool_name, step.next_tool_args
            if name == FINISH:
                caller.add_step(str(step[THOUGHT]), name, arguments)
                break
            observation = await caller.call(name, arguments, thought=str(step[THOUGHT]))
            call = f"{name}({msgspec.json.encode(arguments).decode()})"
            trajectory.add(str(step[THOUGHT]), call, observation)
        caller.check_limits()
        answer = await trajectory.ask(self.extract, current(), values)
        return {name: answer[name] for name in self.signature.output_fields}

    def children(self) -> Iterator[tuple[str, Module]]:
        """Yield the predictors, and the tools that are modules."""
        yield from super().children()
        for name, tool in self.tools.items():
            if isinstance(tool.module, Module):
                yield f"tools[{name!r}]", tool.module

    def shared(self) -> Sequence[object]:
        """Return the tool functions, which may be bound to objects that cannot be copied."""
        return [
            part
            for tool in self.tools.values()
            if tool.module is None
            for part in (tool.call, tool.policy)
        ]

    def set_tools(self, tools: ToolSet) -> None:
        """Replace the tools; only for agents under construction.

        Raises:
            DefinitionError: a tool is named "finish".
        """
        self.tools = _check_tools(tools)
        signature = self.react.signature
        head, mark, _ = signature.instructions.partition(_TOOLS)
        if mark:
            signature = signature.with_instructions(f"{head}{_TOOLS}\n{self._tool_lines()}")
        self.react.signature = signature.with_field(TOOL_NAME, self._tool_names())

    def _tool_lines(self) -> str:
        lines = [
            f"- {spec.name}: {spec.description} Arguments: {_schema_text(spec)}"
            for spec in self.tools.specs()
        ]
        return "\n".join([*lines, f"- {FINISH}: ends the course; its arguments are {{}}."])

    def _tool_names(self) -> str:
        return f"Literal[{', '.join(map(repr, [*self.tools, FINISH]))}]"

    def _step_signature(self) -> Signature:
        outputs = ", ".join(
            f"`{field.wire_name}`" for field in self.signature.output_fields.values()
        )
        instructions = (
            f"{self.signature.instructions}\n\nYou are an agent. In each turn, look at the course "
            "so far, think, "
            f"and call one tool, until you know enough to give {outputs}. {_TOOLS}\n"
            + self._tool_lines()
        )  # fmt: skip
        base = self._with_trajectory(self.signature).with_instructions(instructions).append(THOUGHT)
        for name in self.signature.output_fields:
            base = base.remove(name)
        return base.append(TOOL_NAME, self._tool_names()).append(TOOL_ARGUMENTS, "dict[str, any]")

    @staticmethod
    def _with_trajectory(signature: Signature) -> Signature:
        return signature.append(
            TRAJECTORY, role="input", desc="what was thought, called and observed so far"
        )

    def node(self, path: ModulePath) -> Node:
        """Return this agent as data: tools are import paths of functions, or modules.

        Raises:
            DefinitionError: a tool is neither, or cannot be imported; the message names it.
        """
        config = {
            "tools": [tool_config(tool) for tool in self.tools.values()],
            "max_turns": self.max_turns,
            "max_tokens": self.max_tokens,
            "max_usd": self.max_usd,
            **checks_config(self.signature),
        }
        children: dict[str, Children] = {
            "react": self.react.node(path.child("react")),
            "extract": self.extract.node(path.child("extract")),
        }
        modules = {
            name: tool.module
            for name, tool in self.tools.items()
            if isinstance(tool.module, Module)
        }
        if modules:
            children["tools"] = {
                name: module.node(path.child(f"tools[{name!r}]"))
                for name, module in modules.items()
            }
        return Node(
            id=str(path), kind=KIND.name, signature=self.signature, config=config, children=children
        )


def _check_tools(tools: ToolSet) -> ToolSet:
    if FINISH in tools:
        raise DefinitionError(
            f"a tool may not be named {FINISH!r}: that is how the model ends; rename it"
        )
    return tools


def _schema_text(spec: ToolSpec) -> str:
    return msgspec.json.encode(spec.parameters.get("properties", {})).decode()


def _build(node: Node, builder: NodeBuilder) -> ReAct:
    config = {name: value for name, value in node.config.items() if name not in {"checks", "tools"}}
    modules = builder.children(node, "tools")
    tools = [tool_of(tool, modules, builder.code) for tool in node.config.get("tools", ())]
    module = ReAct(builder.signature(node), tools, **config)
    module.react = builder.child(node, "react", Predict)
    module.extract = builder.child(node, "extract", ChainOfThought)
    return module


def _code(node: Node) -> Iterator[Mapping[str, Any]]:
    yield node.config
    yield from code_of_tools(node)


_SETTINGS = ("temperature", "top_p", "stop", "seed", "repairs")
KIND = ModuleKind(
    name="react",
    summary="reasons, calls tools, and answers",
    build=_build,
    create=lambda signature, settings, name: ReAct(signature, **settings).to_program(name),
    settings=("tools", "max_turns", "max_tokens", "max_usd", "model", "adapter", *_SETTINGS),
    backends=frozenset({"native", "dspy"}),
    dspy_class="ReAct",
    code=_code,
)
