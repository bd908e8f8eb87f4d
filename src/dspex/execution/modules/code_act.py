"""CodeAct: an agent whose actions are code that calls its tools."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from dspex.arguments import checks_names
from dspex.errors import ToolError
from dspex.execution.adapters import Adapter
from dspex.execution.clients import LanguageModel
from dspex.execution.context import current
from dspex.execution.modules.agent_loop import TRAJECTORY
from dspex.execution.modules.agent_text import TextTrajectory
from dspex.execution.modules.attempts import check_count
from dspex.execution.modules.chain_of_thought import ChainOfThought
from dspex.execution.modules.code_session import (
    check_names,
    check_sandbox,
    code_session,
    json_inputs,
    limits_of,
    read_code,
    sandbox_config,
    sandbox_problem,
    without,
)
from dspex.execution.modules.module import Module
from dspex.execution.modules.module_kind import ModuleKind, NodeBuilder
from dspex.execution.modules.predict import Predict, SignatureT
from dspex.execution.modules.tool_approval import run_tool
from dspex.execution.modules.tool_data import code_of_tools, tool_config, tool_of
from dspex.execution.sandbox import Sandbox, SandboxLimits
from dspex.execution.sandbox.sandbox import SandboxTool
from dspex.execution.tools import Tool, ToolSet
from dspex.language.programs import ModulePath, Node
from dspex.language.signatures import Signature
from dspex.language.variables import Variable

CODE, FINISHED = "generated_code", "finished"


@checks_names
class CodeAct(Module[SignatureT]):
    """Works in turns: the model writes code that calls tools, and sees what it printed.

    The code of all turns shares one sandbox session; tools run on the host. When the model reports
    that it is finished, a last call extracts the answer from the trajectory. The predictors and
    their fields are named as in dspy. Source: Wang et al., "Executable Code Actions Elicit Better
    LLM Agents", 2024.
    """

    def __init__(
        self,
        signature: type[SignatureT] | Signature | str,
        tools: "Iterable[Tool | Callable[..., Any]] | ToolSet",
        *,
        max_iters: int = 5,
        sandbox: Sandbox | str | None = None,
        limits: SandboxLimits | Mapping[str, Any] | None = None,
        model: LanguageModel | str | Variable | None = None,
        adapter: Adapter | str | Variable | None = None,
    ) -> None:
        """Take the signature and the tools; the others are those of `ProgramOfThought`.

        Raises:
            DefinitionError: `max_iters`, the sandbox, a limit, a tool or a name is invalid.
        """
        self.signature = Signature.of(signature)
        self.tools = tools if isinstance(tools, ToolSet) else ToolSet(tools)
        check_names(self.signature, self.tools)
        self.max_iters = check_count("max_iters", max_iters)
        self._sandbox = check_sandbox(sandbox)
        self._limits = limits_of(limits)
        step = (
            self.signature.append(TRAJECTORY, role="input", desc="the code so far and its output")
            .append(CODE, desc="Python code of the next turn; print what you need to see")
            .append(FINISHED, "bool", desc="whether nothing is left to be found out")
        )
        step = without(step, self.signature.output_fields)
        self.codeact: Predict[Any] = Predict(
            step.with_instructions(self._instructions()),
            model=model,
            adapter=adapter,
        )
        self.extractor: ChainOfThought[SignatureT] = ChainOfThought(
            self.signature.append(TRAJECTORY, role="input", desc="the code and what it printed"),
            model=model,
            adapter=adapter,
        )

    def _instructions(self) -> str:
        lines = [
            f"- {spec.name}({', '.join(spec.parameters.get('properties', {}))}): {spec.description}"
            for spec in self.tools.specs()
        ]
        outputs = ", ".join(f"`{name}`" for name in self.signature.output_fields)
        return (
            f"{self.signature.instructions}\n\nIn each turn, write Python code that gets closer to "
            f"{outputs}. The inputs are variables of their names, and names of earlier turns are "
            "still there. The code may call:\n" + "\n".join(lines)
        )

    async def forward(self, **inputs: Any) -> Mapping[str, Any]:
        """Run until the model is finished, then answer; `trajectory` lists the turns.

        Raises:
            SandboxError: the sandbox cannot be started, or its session ended by a limit.
        """
        values = self.signature.validate_inputs(inputs)
        trajectory, steps = TextTrajectory(), []
        tools = {name: self._callable(name) for name in self.tools}
        outputs = self.signature.output_fields
        async with code_session(
            self._sandbox, self._limits, outputs=outputs, tools=tools
        ) as session:
            await session.bind(json_inputs(values))
            for _ in range(self.max_iters):
                step = await trajectory.ask(self.codeact, current(), values)
                code = read_code(str(step[CODE]))
                result = await session.run(code)
                text = session.observation(result)
                trajectory.add("", code, text)
                error = None if result.fault is None else str(result.fault)
                steps.append({"code": code, "observation": text, "error": error})
                if step[FINISHED] and result.fault is None:
                    break
        answer = await trajectory.ask(self.extractor, current(), values)
        return {**answer, TRAJECTORY: steps}

    def _callable(self, name: str) -> SandboxTool:
        names = list(self.tools[name].spec().parameters.get("properties", {}))

        async def call(*args: Any, **kwargs: Any) -> Any:
            if len(args) > len(names):
                raise ToolError(f"{name} takes {len(names)} arguments, not {len(args)}")
            arguments = {**dict(zip(names, args, strict=False)), **kwargs}
            return await run_tool(self.tools, name, arguments)

        return call

    def contract(self) -> Signature:
        """Return the signature, with the reasoning of the last step."""
        signature: Signature = self.signature
        return signature.prepend("reasoning")

    def node(self, path: ModulePath) -> Node:
        """Return this module as data.

        Raises:
            DefinitionError: a tool cannot be imported, or the sandbox is an object.
        """
        return Node(
            id=str(path),
            kind=KIND.name,
            signature=self.signature,
            config={
                "tools": [tool_config(tool) for tool in self.tools.values()],
                "max_iters": self.max_iters,
                **sandbox_config(self._sandbox, self._limits, str(path)),
            },
            children={
                "codeact": self.codeact.node(path.child("codeact")),
                "extractor": self.extractor.node(path.child("extractor")),
            },
        )


def _build(node: Node, builder: NodeBuilder) -> CodeAct:
    config = {name: value for name, value in node.config.items() if name != "tools"}
    tools = [tool_of(tool, {}, builder.code) for tool in node.config["tools"]]
    module = CodeAct(builder.signature(node), tools, **config)
    module.codeact = builder.child(node, "codeact", Predict)
    module.extractor = builder.child(node, "extractor", ChainOfThought)
    return module


def _dspy_problem(node: Node) -> str:
    for tool in node.config.get("tools", ()):
        if isinstance(tool, str) or tool.keys() - {"target", "source_hash"}:
            return f"dspy's CodeAct copies the source of functions into its sandbox, not {tool}"
    return sandbox_problem(node)


KIND = ModuleKind(
    name="code_act",
    summary="writes code that calls tools, in turns, and answers",
    build=_build,
    create=lambda signature, settings, name: CodeAct(signature, **settings).to_program(name),
    settings=("tools", "max_iters", "sandbox", "limits", "model", "adapter"),
    backends=frozenset({"native", "dspy"}),
    dspy_problem=_dspy_problem,
    code=code_of_tools,
)
