"""The functions of a program on dspy: tools and rewards run here, code goes into its sandbox."""

import inspect
import textwrap
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter

from dspex.errors import DefinitionError
from dspex.execution.backends.dspy_bridge.answers import read_outputs
from dspex.execution.backends.remote import Tools
from dspex.execution.modules import CodeRoot
from dspex.execution.modules.code import load_function
from dspex.execution.modules.reward import RewardSource, reward_of
from dspex.execution.modules.tool_approval import approve
from dspex.execution.modules.tool_data import tool_of
from dspex.execution.tools import Tool
from dspex.language.programs import Node, Program
from dspex.language.records import Prediction
from dspex.language.signatures import Signature

FIX = "leave it out, or run the program natively"
Reward = Callable[[Mapping[str, Any], Mapping[str, Any]], Awaitable[float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Callables:
    """What a program in a worker calls in this process: tools by name, rewards by path."""

    tools: dict[str, Callable[..., Any]] = field(default_factory=dict)
    rewards: dict[str, Reward] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Functions:
    """The functions of programs: tools given to the backend by name, and those in the code root."""

    named: Tools
    code: CodeRoot | None = None

    def tools_of(self, node: Node) -> tuple[dict[str, Callable[..., Any]], list[dict[str, Any]]]:
        """Return the tools of `node` by name, and their descriptions for dspy.

        Raises:
            DefinitionError: a tool is unknown, or a module.
            ConflictError: the code of a tool has changed since the program was stored.
        """
        tools: dict[str, Callable[..., Any]] = {}
        descriptions = []
        for config in node.config.get("tools", ()):
            if isinstance(config, str):
                name, function = config, self._named(config)
                description = ""
                tools[name] = function
            elif "module" in config or config.get("init"):
                raise DefinitionError(f"dspy's tools are not modules ({config}): {FIX}")
            else:
                tool = tool_of(config, {}, self.code)
                name, function = tool.name, tool.call
                description = tool.description if "description" in config else ""
                tools[name] = function if config.keys() <= _PLAIN_KEYS else _with_policy(tool)
            descriptions.append(_describe_tool(name, function, description))
        return tools, descriptions

    def _named(self, name: str) -> Callable[..., Any]:
        if name not in self.named:
            names = ", ".join(self.named) or "none"
            raise DefinitionError(f"the program uses a tool {name!r}; this backend has: {names}")
        return self.named[name]

    def sources_of(self, node: Node) -> list[dict[str, str]]:
        """Return name and source of the tools of `node`, which dspy copies into its sandbox."""
        functions = [
            load_function(config, self.code, f"the tool {config['target']!r}")
            for config in node.config.get("tools", ())
        ]
        return [{"name": item.__name__, "source": _source_of(item)} for item in functions]

    def reward_of(self, node: Node) -> tuple[dict[str, Any], Reward | None]:
        """Return the reward of a node for dspy, and the function that computes it here, if any.

        Raises:
            DefinitionError: it is code that cannot be loaded.
            ConflictError: the source of the function has changed.
        """
        reward = node.config["reward"]
        if isinstance(reward, str):
            return {"field": reward, "code": f"lambda args, pred: pred.{reward}"}, None
        function = load_function(reward, self.code, "the reward function")
        return {"code": _source_of(function)}, _reward(function, node)


_PLAIN_KEYS = {"target", "source_hash", "init", "name", "description"}


def _with_policy(tool: Tool) -> Callable[..., Any]:
    async def call(**arguments: Any) -> Any:
        return await tool.run(arguments, approve=approve)

    return call


def _reward(function: RewardSource, node: Node) -> Reward:
    inner, signature = _inner(node)
    program = Program(name=inner.id, signature=signature, root=inner)

    async def call(inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> float:
        values = signature.validate_inputs(_by_name(signature, inputs))
        return await reward_of(function, values, Prediction(read_outputs(program, outputs)))

    return call


def _inner(node: Node) -> tuple[Node, Signature]:
    """Return the innermost module that a node wraps, and its signature."""
    inner = node.children["module"]
    while isinstance(inner, Node) and inner.signature is None and "module" in inner.children:
        inner = inner.children["module"]
    if not isinstance(inner, Node) or inner.signature is None:
        raise DefinitionError(f"the node {node.id!r} wraps a module without a signature: {FIX}")
    return inner, inner.signature


def required_inputs(node: Node) -> list[str]:
    """Return the inputs that each row of a `Parallel` needs, as dspy names them."""
    fields = _inner(node)[1].input_fields.values()
    return [field.wire_name for field in fields if field.is_required]


def _by_name(signature: Signature, inputs: Mapping[str, Any]) -> dict[str, Any]:
    names = {field.wire_name: name for name, field in signature.fields.items()}
    return {names.get(name, name): value for name, value in inputs.items()}


def _source_of(function: Any) -> str:
    return textwrap.dedent(inspect.getsource(function))


def _describe_tool(name: str, function: Callable[..., Any], description: str) -> dict[str, Any]:
    # a function is a type to pydantic
    adapter: TypeAdapter[Any] = TypeAdapter(function)  # type: ignore[arg-type]
    return {
        "name": name,
        "desc": description or (function.__doc__ or name).strip(),
        "args": adapter.json_schema().get("properties", {}),
    }
