"""The tools that agents created through the API may use."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from dspex.error_text import suggest
from dspex.errors import DefinitionError
from dspex.execution.modules import CodeRoot
from dspex.execution.tools import Tool
from dspex.operations.framework.field_errors import invalid
from dspex.operations.framework.operations import Operations


@dataclass(frozen=True, slots=True)
class RegisteredTools:
    """The tools of the settings by name: functions or a `Tool` in the code root ("module:name")."""

    targets: Mapping[str, str]


def tools_named(operations: Operations, names: Any, path: str) -> list[Tool]:
    """Return registered tools; `path` is the place of `names` in the request.

    Raises:
        InvalidError: `names` is not a list of registered names, or the code of one cannot be
            loaded; the message has the path and the names that are registered.
    """
    targets = operations.services[RegisteredTools].targets
    known = (
        f"registered are: {', '.join(targets)}"
        if targets
        else ('none is registered; add some to [tools] in dspex.toml: lookup = "app.py:lookup"')
    )
    expected = f"a list of names of tools ({known})"
    if not isinstance(names, list) or not names:
        raise invalid(path, names, expected, constraint="definition")
    code = operations.services.get(CodeRoot)
    tools = []
    for number, name in enumerate(names):
        place = f"{path}[{number}]"
        if not isinstance(name, str) or name not in targets or code is None:
            hint = suggest(name, targets) if isinstance(name, str) else ""
            message = f"there is no tool {name!r}.{hint} {known.capitalize()}"
            raise invalid(place, name, expected, message=message, constraint="definition")
        try:
            tools.append(load_tool(code, name, targets[name]))
        except DefinitionError as error:
            raise invalid(
                place, name, expected, message=error.message, constraint="definition"
            ) from error
    return tools


def load_tool(code: CodeRoot, name: str, target: str) -> Tool:
    """Return the tool with a name in the settings: a typed function, or a `Tool` with its policy.

    Raises:
        DefinitionError: there is no such code, or it is neither.
        SignatureError: a parameter of the function has no type that is supported.
    """
    loaded = code.load(target)
    if isinstance(loaded, Tool):
        return replace(loaded, name=name)
    return Tool.from_function(loaded, name=name)
