"""A set of tools, by name."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from dspex.arguments import checks_names
from dspex.error_text import shorten, suggest
from dspex.errors import DefinitionError, ToolError
from dspex.execution.clients import ToolSpec
from dspex.execution.tools.tool import Approve, Tool, ToolPolicy


@checks_names
class ToolSet(Mapping[str, Tool]):
    """A frozen mapping from name to tool."""

    __slots__ = ("_tools",)

    def __init__(
        self,
        tools: "Iterable[Tool | Callable[..., Any]]" = (),
        *,
        policies: Mapping[str, ToolPolicy] | None = None,
    ) -> None:
        """Take tools and typed functions, and the policies of some of them by name.

        Raises:
            DefinitionError: two tools have the same name, or a policy names an unknown tool.
        """
        if isinstance(tools, str | Mapping) or not isinstance(tools, Iterable):
            raise DefinitionError(f"tools are a list of functions and tools, not {shorten(tools)}")
        self._tools: dict[str, Tool] = {}
        for tool in map(Tool.of, tools):
            if tool.name in self._tools:
                raise DefinitionError(
                    f"two tools are named {tool.name!r}; give one of them another name"
                )
            self._tools[tool.name] = tool
        for name, policy in (policies or {}).items():
            if name not in self._tools:
                raise DefinitionError(
                    f"there is no tool {name!r} for this policy.{suggest(name, list(self._tools))}"
                )
            self._tools[name] = replace(self._tools[name], policy=policy)

    def __getitem__(self, name: str) -> Tool:
        return self._tools[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tools)

    def __len__(self) -> int:
        return len(self._tools)

    def specs(self) -> tuple[ToolSpec, ...]:
        """Return the specifications that models receive."""
        return tuple(tool.spec() for tool in self._tools.values())

    async def run(
        self, name: str, arguments: Mapping[str, Any], *, approve: Approve | None = None
    ) -> Any:
        """Call one tool; see `Tool.run`.

        Raises:
            ToolError: there is no such tool, or it failed.
        """
        if name not in self._tools:
            names = ", ".join(self._tools)
            raise ToolError(
                f"there is no tool {name!r}.{suggest(name, list(self._tools))} The tools are: "
                f"{names}"
            )
        return await self._tools[name].run(arguments, approve=approve)
