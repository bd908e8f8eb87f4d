"""RLM: answer about contexts that are too long for a prompt, by code that explores them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dspex.arguments import checks_names
from dspex.error_text import quantity
from dspex.errors import BudgetError, InputError, ToolError
from dspex.execution.adapters import Adapter
from dspex.execution.clients import LanguageModel, Request
from dspex.execution.context import current
from dspex.execution.modules.attempts import all_at_once, check_count
from dspex.execution.modules.chain_of_thought import ChainOfThought
from dspex.execution.modules.code_session import (
    CodeSession,
    check_names,
    check_sandbox,
    code_session,
    json_inputs,
    limits_of,
    observation,
    read_code,
    sandbox_config,
    sandbox_problem,
    without,
)
from dspex.execution.modules.host_calls import SUBMIT
from dspex.execution.modules.model_call import complete
from dspex.execution.modules.module import Module
from dspex.execution.modules.module_kind import ModuleKind, NodeBuilder
from dspex.execution.modules.predict import Predict, SignatureT
from dspex.execution.modules.settings import model_string
from dspex.execution.sandbox import Sandbox, SandboxLimits
from dspex.language.programs import ModulePath, Node
from dspex.language.records import Message
from dspex.language.signatures import Signature
from dspex.language.variables import Variable

if TYPE_CHECKING:
    from dspex.execution.sandbox.sandbox import SandboxTool

VARIABLES, HISTORY, CODE = "variables_info", "repl_history", "code"
TRAJECTORY = "trajectory"
_PREVIEW = 500
_QUERIES = ("llm_query", "llm_query_batched")


@checks_names
class RLM(Module[SignatureT]):
    """Keeps the inputs in a sandbox, and has the model write code that looks at them.

    The prompt shows the name, type, length and beginning of each input. The code reads them as
    variables, asks a model about parts with `llm_query(prompt)` or `llm_query_batched(prompts)`,
    and ends with `SUBMIT(field=value, ...)`; values that do not fit are sent back. Sub-calls use
    the budget and the deadline of the run. The predictors are named as in dspy. Source: Zhang and
    Khattab, "Recursive Language Models", 2025.
    """

    def __init__(
        self,
        signature: type[SignatureT] | Signature | str,
        *,
        max_iters: int = 20,
        max_llm_calls: int = 50,
        sandbox: Sandbox | str | None = None,
        limits: SandboxLimits | Mapping[str, Any] | None = None,
        model: LanguageModel | str | Variable | None = None,
        sub_model: LanguageModel | str | None = None,
        adapter: Adapter | str | Variable | None = None,
    ) -> None:
        """Take the signature.

        Args:
            signature: inputs and outputs of the whole module.
            max_iters: the maximum number of turns; then a last call answers from the history.
            max_llm_calls: the maximum number of sub-calls in one run.
            sandbox: as for `ProgramOfThought`.
            limits: what the code may use.
            model: the model that writes the code, as for `Predict`.
            sub_model: the model of the sub-calls; by default that of the context.
            adapter: as for `Predict`.

        Raises:
            DefinitionError: a number, the sandbox, a limit or the name of an input is invalid.
        """
        self.signature = Signature.of(signature)
        check_names(self.signature, _QUERIES)
        self.max_iters = check_count("max_iters", max_iters)
        self.max_llm_calls = check_count("max_llm_calls", max_llm_calls)
        self.sub_model = sub_model
        self._sandbox = check_sandbox(sandbox)
        self._limits = limits_of(limits)
        outputs = ", ".join(f"`{name}`" for name in self.signature.output_fields)
        self.generate_action: Predict[Any] = Predict(
            Signature(f"{VARIABLES}, {HISTORY} -> reasoning, {CODE}").with_instructions(
                f"{self.signature.instructions}\n\nCompute {outputs} with Python code, in turns. "
                "The inputs are variables; they may be far too long to print. The code may call "
                "llm_query(prompt) to have a model read a part, llm_query_batched(prompts) for "
                "several at once, and print what you need to see. Names of earlier turns are still "
                f"there. When you know the answer, call {SUBMIT}(field=value, ...)."
            ),
            model=model,
            adapter=adapter,
        )
        self.extract: ChainOfThought[SignatureT] = ChainOfThought(
            without(
                self.signature.append(VARIABLES, role="input").append(HISTORY, role="input"),
                self.signature.input_fields,
            ),
            model=model,
            adapter=adapter,
        )

    async def forward(self, **inputs: Any) -> Mapping[str, Any]:
        """Run until the code submits outputs that fit; `trajectory` lists the turns.

        Raises:
            SandboxError: the sandbox cannot be started, or its session ended by a limit.
            BudgetError: the budget of the run is used up.
        """
        values = self.signature.validate_inputs(inputs)
        calls = _SubCalls(self.sub_model, self.max_llm_calls)
        tools: dict[str, SandboxTool] = dict(zip(_QUERIES, (calls.one, calls.several), strict=True))
        prompt_values, steps = {VARIABLES: _describe(values), HISTORY: "(nothing yet)"}, _Steps()
        names = self.signature.output_fields
        async with code_session(self._sandbox, self._limits, outputs=names, tools=tools) as session:
            await session.bind(json_inputs(values))
            for _ in range(self.max_iters):
                outputs = await self._turn(session, prompt_values, steps)
                if outputs is not None:
                    return {**outputs, TRAJECTORY: steps.steps}
                prompt_values = {**prompt_values, HISTORY: steps.text()}
        answer = await self.extract.acall(**prompt_values)
        return {**{name: answer[name] for name in names}, TRAJECTORY: steps.steps}

    async def _turn(
        self, session: CodeSession, prompt_values: Mapping[str, str], steps: "_Steps"
    ) -> Mapping[str, Any] | None:
        """Have code written and run it; return the outputs that it submitted, if they fit."""
        action = await self.generate_action.acall(**prompt_values)
        code = read_code(str(action[CODE]))
        text, outputs = observation(await session.run(code)), None
        if session.submitted is not None:
            outputs, problem = self._accept(session.submitted)
            text = problem or text
        steps.add(str(action["reasoning"]), code, text)
        return outputs

    def _accept(self, submitted: Mapping[str, Any]) -> tuple[Mapping[str, Any] | None, str]:
        """Return the outputs that the code submitted, or None and what does not fit."""
        try:
            return self.signature.validate_outputs(submitted), ""
        except InputError as error:
            return None, f"{SUBMIT} was refused: {error.message}"

    def node(self, path: ModulePath) -> Node:
        """Return this module as data.

        Raises:
            DefinitionError: the sandbox is an object.
        """
        config = {
            "max_iters": self.max_iters,
            "max_llm_calls": self.max_llm_calls,
            **sandbox_config(self._sandbox, self._limits, str(path)),
        }
        if self.sub_model is not None:
            config["sub_model"] = model_string(path, self.sub_model)
        return Node(
            id=str(path),
            kind=KIND.name,
            signature=self.signature,
            config=config,
            children={
                "generate_action": self.generate_action.node(path.child("generate_action")),
                "extract": self.extract.node(path.child("extract")),
            },
        )


class _Steps:
    """The turns of one run."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Any]] = []

    def add(self, reasoning: str, code: str, output: str) -> None:
        """Add a turn."""
        self.steps.append({"reasoning": reasoning, "code": code, "observation": output})

    def text(self) -> str:
        """Return the turns as prompts show them."""
        return "\n\n".join(
            f"Turn {number}: {step['reasoning']}\n{step['code']}\nOutput:\n{step['observation']}"
            for number, step in enumerate(self.steps, start=1)
        )


class _SubCalls:
    """The calls of a model from inside the sandbox, during one run."""

    def __init__(self, model: LanguageModel | str | None, most: int) -> None:
        self._model = model
        self._left = most
        self._most = most

    async def one(self, prompt: str) -> str:
        """Return the reply to one prompt."""
        self._left -= 1
        if self._left < 0:
            raise BudgetError(
                f"more than {quantity(self._most, 'call')} of llm_query", limit="llm_calls"
            )
        context = current()
        request = Request(messages=(Message("user", str(prompt)),))
        model = context.model_for(self._model)
        response = await complete(context, model, request, field="llm_query", attempt=1)
        return response.text

    async def several(self, prompts: list[str]) -> list[str]:
        """Return the replies to several prompts, asked at once."""
        if not isinstance(prompts, list):
            raise ToolError(
                f"llm_query_batched takes a list of prompts, not {type(prompts).__name__}"
            )
        return await all_at_once([self.one(prompt) for prompt in prompts])


def _describe(values: Mapping[str, Any]) -> str:
    lines = []
    for name, value in json_inputs(values).items():
        text = value if isinstance(value, str) else str(value)
        begin = text[:_PREVIEW]
        more = "..." if len(text) > _PREVIEW else ""
        size = f", {len(value)} long" if isinstance(value, str | list | dict) else ""
        lines.append(f"{name} ({type(value).__name__}{size}): {begin}{more}")
    return "\n".join(lines)


def _build(node: Node, builder: NodeBuilder) -> RLM:
    module = RLM(builder.signature(node), **node.config)
    module.generate_action = builder.child(node, "generate_action", Predict)
    module.extract = builder.child(node, "extract", ChainOfThought)
    return module


KIND = ModuleKind(
    name="rlm",
    summary="explores long inputs by code in a sandbox, and answers",
    build=_build,
    create=lambda signature, settings, name: RLM(signature, **settings).to_program(name),
    settings=("max_iters", "max_llm_calls", "sub_model", "sandbox", "limits", "model", "adapter"),
    backends=frozenset({"native", "dspy"}),
    dspy_problem=sandbox_problem,
)
