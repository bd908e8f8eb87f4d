"""An agent: thinks, calls tools, and answers."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from dspex.errors import BudgetError, DefinitionError, InvalidError, ToolError
from dspex.execution.clients import LanguageModel, Request, Response, ToolSpec
from dspex.execution.context import RunContext, current, entered, payload
from dspex.execution.modules.asking import complete
from dspex.execution.modules.chain_of_thought import ChainOfThought
from dspex.execution.modules.code import code_config
from dspex.execution.modules.module import Module
from dspex.execution.modules.predict import Predict
from dspex.execution.tools import Tool, ToolSet
from dspex.language.programs import Node
from dspex.language.records import Message, Prediction, ToolCall, Usage
from dspex.language.signatures import Signature, SignatureLike

FINISH = "finish"


class ReAct(Module):
    """Works in turns: the model thinks and calls a tool, reads what it returned, and so on until it can answer.

    A model with the capability "tools" calls natively and gives its typed answer as the last call; for all others the
    calls are text fields, and a last question draws the answer from the whole course. What goes wrong with a tool
    (unfit arguments, no permission, a failure, no answer in time) is what the model observes, and the run goes on.
    Source: Yao et al., "ReAct: Synergizing Reasoning and Acting in Language Models", 2022.
    """

    def __init__(
        self,
        signature: SignatureLike,
        tools: "Iterable[Tool | Callable[..., Any]] | ToolSet",
        *,
        max_turns: int = 10,
        max_tokens: int | None = None,
        max_usd: float | None = None,
        model: LanguageModel | str | None = None,
    ) -> None:
        """Take the contract and the tools.

        Args:
            signature: of the whole: task in, answer out.
            tools: tools and typed functions.
            max_turns: after so many the model has to answer from what it has found out.
            max_tokens: after so many (of all calls inside) a `BudgetError` ends the run before the next call.
            max_usd: the same for dollars.
            model: a model of its own; the context's by default.

        Raises:
            DefinitionError: a tool has the name "finish", or two have one name.
        """
        self.signature = Signature.of(signature)
        self.tools = tools if isinstance(tools, ToolSet) else ToolSet(tools)
        if FINISH in self.tools:
            raise DefinitionError(f"a tool may not be named {FINISH!r}: that is how the model ends; rename it")
        self.max_turns = max_turns
        self.max_tokens = max_tokens
        self.max_usd = max_usd
        self.react = Predict(self._step_signature(), model=model)
        self.extract = ChainOfThought(self._with_course(self.signature), model=model)

    async def forward(self, **inputs: Any) -> Prediction | Mapping[str, Any]:  # noqa: ANN401
        """Work until there is an answer."""
        values = self.signature.validate_inputs(inputs)
        context = current()
        model = context.model_for(self.react.model)
        if "tools" in model.capabilities:
            return await _Native(self, context, model).work(values)
        return await self._work_in_text(values)

    async def _work_in_text(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        course: list[str] = []
        first = _spans_so_far()
        for turn in range(1, self.max_turns + 1):
            self.check_limits(first)
            step = await self.react.acall(**values, course="\n".join(course) or "(nothing yet)")
            if step.next_tool == FINISH:
                break
            observation = await self.observe(step.next_tool, step.next_arguments)
            call = f"{step.next_tool}({msgspec.json.encode(step.next_arguments).decode()})"
            course.append(f"Thought {turn}: {step.thought}\nCall {turn}: {call}\nObservation {turn}: {observation}")
        self.check_limits(first)
        answer = await self.extract.acall(**values, course="\n".join(course) or "(nothing)")
        return {name: answer[name] for name in self.signature.output_fields}

    async def observe(self, name: str, arguments: Mapping[str, Any]) -> str:
        """Call a tool and return what the model reads of it; an error is an observation, too."""
        context = current()
        if context.run is None:
            raise DefinitionError("tools of an agent are called while it runs")
        span = context.run.begin("tool", name, parent_id=context.parent_id, path=context.path)
        if context.records_payloads:
            span.inputs = payload(arguments)
        try:
            with entered(context.below(span)):
                found = await self.tools.run(name, arguments)
        except ToolError as error:
            span.end(error=error)
            return f"error: {error.message}"
        except BaseException as error:
            span.end(error=error)
            raise
        text = found if isinstance(found, str) else payload(found)
        span.end(outputs=text if context.records_payloads else None)
        return text

    def check_limits(self, first: int) -> None:
        """Refuse another call once tokens or dollars are used up.

        Raises:
            BudgetError: they are.
        """
        run, tokens, usd = current().run, self.max_tokens, self.max_usd
        if run is None or (tokens is None and usd is None):
            return
        spent = Usage()
        for span in run.spans[first:]:
            if span.kind == "model" and span.usage is not None:
                spent += span.usage
        if tokens is not None and spent.total_tokens >= tokens:
            raise BudgetError(f"the agent has used {spent.total_tokens} of {tokens} tokens", limit="tokens")
        if usd is not None and (spent.cost_usd is None or spent.cost_usd >= usd):
            raise BudgetError(f"the agent has spent {spent.cost_usd} of {usd:g} dollars", limit="usd")

    def _step_signature(self) -> Signature:
        lines = [f"- {spec.name}: {spec.description} Arguments: {_schema_text(spec)}" for spec in self.tools.specs()]
        outputs = ", ".join(f"`{field.wire_name}`" for field in self.signature.output_fields.values())
        instructions = (
            f"{self.signature.instructions}\n\nYou are an agent. In each turn, look at the course so far, think, "
            f"and call one tool, until you know enough to give {outputs}. The tools are:\n" + "\n".join(lines)
            + f"\n- {FINISH}: ends the course; its arguments are {{}}."
        )  # fmt: skip
        names = [*self.tools, FINISH]
        base = self._with_course(self.signature).with_instructions(instructions)
        for name in self.signature.output_fields:
            base = base.append("thought") if "thought" not in base.fields else base
            base = base.remove(name)
        chosen = base.append("next_tool", f"Literal[{', '.join(map(repr, names))}]")
        return chosen.append("next_arguments", "dict[str, any]")

    @staticmethod
    def _with_course(signature: Signature) -> Signature:
        return signature.append("course", role="input", desc="what was thought, called and observed so far")

    def node(self, path: str) -> Node:
        """Return this agent as data: its tools are named by where their functions are."""
        below = "" if path == "self" else f"{path}."
        config = {
            "tools": [code_config(tool.call, {}) for tool in self.tools.values()],
            "max_turns": self.max_turns,
            "max_tokens": self.max_tokens,
            "max_usd": self.max_usd,
        }
        children = {"react": self.react.node(f"{below}react"), "extract": self.extract.node(f"{below}extract")}
        return Node(id=path, kind="react", signature=self.signature, config=config, children=children)


def _spans_so_far() -> int:
    run = current().run
    return 0 if run is None else len(run.spans)


def _schema_text(spec: ToolSpec) -> str:
    return msgspec.json.encode(spec.parameters.get("properties", {})).decode()


class _Native:
    """The loop for models that call tools natively."""

    def __init__(self, agent: ReAct, context: RunContext, model: LanguageModel) -> None:
        self._agent = agent
        self._context = context
        self._model = model
        schema = agent.signature.to_json_schema("generic")
        self._specs = (*agent.tools.specs(), ToolSpec(FINISH, "Give the answer, once you know it.", schema))
        self._system = Message(
            "system",
            f"{agent.react.signature.instructions.split('The tools are:')[0]}Call the tools that you are given; "
            f"end by calling `{FINISH}` with the answer.",
        )

    async def work(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the outputs of the signature."""
        given = self._agent.signature.input_fields
        text = "\n\n".join(f"{given[name].wire_name}: {_plain(value)}" for name, value in values.items())
        messages = [self._system, Message("user", text)]
        first = _spans_so_far()
        turns = self._agent.max_turns
        for turn in range(1, turns + 2):
            self._agent.check_limits(first)
            choice = "auto" if turn <= turns else FINISH
            response = await self._ask(messages, choice)
            messages.append(Message("assistant", response.text, tool_calls=response.tool_calls))
            if not response.tool_calls:
                messages.append(Message("user", f"Call a tool, or `{FINISH}` with the answer."))
            for call in response.tool_calls:
                outputs, observation = await self._step(call)
                if outputs is not None:
                    return outputs
                messages.append(Message("tool", observation, tool_call_id=call.id))
        raise BudgetError(f"the agent gave no fitting answer within {turns} turns", limit="turns")

    async def _ask(self, messages: list[Message], choice: str) -> Response:
        seed = self._context.seed if "seed" in self._model.capabilities else None
        request = Request(messages=tuple(messages), tools=self._specs, tool_choice=choice, seed=seed)
        return await complete(current(), self._model, request)

    async def _step(self, call: ToolCall) -> tuple[Mapping[str, Any] | None, str]:
        if call.name != FINISH:
            return None, await self._agent.observe(call.name, call.arguments)
        try:
            return self._agent.signature.validate_outputs(self._named(call.arguments)), ""
        except InvalidError as error:
            return None, f"error: {error.message}"

    def _named(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        names = {field.wire_name: field.name for field in self._agent.signature.output_fields.values()}
        return {names.get(name, name): value for name, value in arguments.items()}


def _plain(value: object) -> str:
    return value if isinstance(value, str) else payload(value)
