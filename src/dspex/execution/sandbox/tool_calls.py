"""Calls of host functions that code in a sandbox makes."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from dspex.errors import SandboxError
from dspex.execution.sandbox.sandbox import SandboxTool
from dspex.execution.sandbox.values import json_value


async def call_tool(
    tools: Mapping[str, SandboxTool], name: str, *, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Any:
    """Call a tool for the code; return its result as JSON data.

    Raises:
        SandboxError: there is no such tool, the arguments do not fit its parameters, or the result
            is not a JSON value. The code gets the message as a `RuntimeError`.
        DspexError: the tool raised it.
    """
    if name not in tools:
        raise SandboxError(f"there is no tool {name!r}")
    tool = tools[name]
    try:
        inspect.signature(tool).bind(*args, **kwargs)
    except TypeError as error:
        raise SandboxError(f"{name}: {error}") from error
    return json_value(await tool(*args, **kwargs), f"the result of {name}")
