"""Teams as registered kinds: stored, and created from a signature and settings."""

from collections.abc import Callable, Mapping
from typing import Any, cast

from dspex.execution.modules.agents.coordination import (
    TEAM_SETTINGS,
    Coordination,
    team_settings,
)
from dspex.execution.modules.agents.members import MemberContract, members_from_settings
from dspex.execution.modules.inner import check_settings
from dspex.execution.modules.module import Module
from dspex.execution.modules.module_kind import ModuleKind, NodeBuilder, functions_in
from dspex.execution.modules.tool_data import code_of_tool
from dspex.language.programs import Node, Program
from dspex.language.signatures import Signature

Restore = Callable[[Node, NodeBuilder, Mapping[str, Module]], Coordination[Any]]
"""Returns the team of a stored node with these members."""


def team_kind(
    team: type[Coordination[Any]],
    restore: Restore,
    *,
    summary: str,
    settings: tuple[str, ...] = (),
    functions: tuple[str, ...] = (),
    lists: tuple[str, ...] = (),
    create: Callable[..., Coordination[Any]] | None = None,
    contract_of: MemberContract | None = None,
) -> ModuleKind:
    """Return the kind of a class of teams.

    Args:
        team: the class.
        restore: returns the team of a stored node.
        summary: one line for people.
        settings: the names of arguments beside those of every coordination, as JSON.
        functions: the names of configurations that may be functions.
        lists: the names of configurations that are lists of tools.
        create: returns a team of a signature, members and settings; by default the class.
        contract_of: returns the signature of a member that is described without one; by default
            that of the team.
    """
    names = (*TEAM_SETTINGS, *settings)
    construct = cast("Callable[..., Coordination[Any]]", create or team)

    def create_program(signature: Signature, values: Mapping[str, Any], name: str) -> Program:
        check_settings(team.kind, values, names)
        options = {key: values[key] for key in settings if key in values}
        members = members_from_settings(values, signature, contract_of)
        return construct(signature, members, **team_settings(values), **options).to_program(name)

    return ModuleKind(
        name=team.kind,
        summary=summary,
        build=lambda node, builder: restore(node, builder, builder.children(node, "members")),
        create=create_program,
        settings=names,
        code=lambda node: (
            node.config,
            *functions_in("verify", *functions)(node),
            *(
                item
                for name in lists
                for tool in node.config.get(name, ())
                for item in code_of_tool(tool)
            ),
        ),
    )
