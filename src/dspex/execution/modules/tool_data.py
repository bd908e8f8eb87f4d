"""The tools of an agent as data: import paths of functions, and modules as nodes."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from dspex.errors import DefinitionError
from dspex.execution.modules.code import CodeRoot, function_config, load_function
from dspex.execution.modules.module import Module
from dspex.execution.tools import Tool, ToolPolicy
from dspex.language.programs import Node

_PLAIN: Final = ("timeout", "retries", "approval", "approval_ttl")
_FUNCTIONS: Final = {"permit": "the permission", "approval": "the approval"}


def tool_config(tool: Tool) -> dict[str, Any]:
    """Return one tool as data; name, description and policy only if they are not the defaults.

    Raises:
        DefinitionError: its code cannot be found by import; the message names the tool.
    """
    if isinstance(tool.module, Module):
        return {"module": tool.name, "description": tool.description, **_policy_config(tool)}
    config = {**function_config(tool.call, f"the tool {tool.name!r}"), **_policy_config(tool)}
    default = Tool.from_function(tool.call)
    if tool.name != default.name:
        config["name"] = tool.name
    if tool.description != default.description and tool.description != tool.name:
        config["description"] = tool.description
    return config


def tool_of(
    config: Mapping[str, Any], modules: Mapping[str, Module], code: CodeRoot | None
) -> Tool:
    """Return the tool behind the result of `tool_config`.

    Args:
        config: the result of `tool_config`.
        modules: the tools that are modules, by name.
        code: the folder to load functions from.

    Raises:
        DefinitionError: `code` is missing, or does not have the function.
        ConflictError: the source of the function has changed.
    """
    tool_name = config.get("name") or config.get("target", "").rpartition(":")[2].rpartition(".")[2]
    conditions = {name: config[name] for name in (*_PLAIN, *_FUNCTIONS) if name in config}
    for name, what in _FUNCTIONS.items():
        if isinstance(conditions.get(name), Mapping):
            what_for = f"{what} of the tool {tool_name!r}"
            conditions[name] = load_function(conditions[name], code, what_for)
    policy = ToolPolicy(**conditions)
    if "module" in config:
        name = config["module"]
        if name not in modules:
            raise DefinitionError(
                f"the tool {name!r} is a module, but the stored agent has no module of this name"
            )
        return Tool.from_module(
            modules[name], name=name, description=config["description"], policy=policy
        )
    function = load_function(config, code, f"the tool {tool_name!r}")
    return Tool.from_function(
        function,
        name=config.get("name", ""),
        description=config.get("description", ""),
        policy=policy,
    )


def code_of_tools(node: Node) -> Iterator[Mapping[str, Any]]:
    """Yield the references to code of an agent's tools."""
    for tool in node.config.get("tools", ()):
        yield from code_of_tool(tool)


def code_of_tool(tool: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the references to code of one tool: its function, and those of its policy."""
    yield tool
    yield from (tool[name] for name in _FUNCTIONS if isinstance(tool.get(name), Mapping))


def _policy_config(tool: Tool) -> dict[str, Any]:
    values = {name: getattr(tool.policy, name) for name in (*_PLAIN, "permit")}
    config = {name: value for name, value in values.items() if value and not callable(value)}
    for name, what in _FUNCTIONS.items():
        if callable(values[name]):
            config[name] = function_config(values[name], f"{what} of the tool {tool.name!r}")
    return config
