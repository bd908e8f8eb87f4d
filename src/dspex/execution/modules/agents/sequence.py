"""Sequence: the members work one after the other."""

from collections.abc import Mapping
from typing import Any

from dspex.arguments import checks_names
from dspex.errors import DefinitionError
from dspex.execution.modules.agents.coordination import Coordination, team_options
from dspex.execution.modules.agents.members import Members, missing_inputs
from dspex.execution.modules.agents.settings import team_kind
from dspex.execution.modules.agents.verification import Verifier
from dspex.execution.modules.module import Module
from dspex.execution.modules.module_kind import NodeBuilder
from dspex.execution.modules.predict import SignatureT
from dspex.execution.team_run import TeamLimits
from dspex.language.programs import Node
from dspex.language.signatures import Signature


@checks_names
class Sequence(Coordination[SignatureT]):
    """Calls the members in order; each gets the inputs and the outputs so far that it declares."""

    kind = "sequence"

    def __init__(
        self,
        signature: type[SignatureT] | Signature | str,
        members: Members,
        *,
        verify: Verifier | None = None,
        attempts: int = 2,
        limits: TeamLimits | None = None,
    ) -> None:
        """Take the arguments of every coordination; see `Coordination`.

        Raises:
            DefinitionError: an input of a member, or an output of the team, comes from nowhere.
        """
        super().__init__(signature, members, verify=verify, attempts=attempts, limits=limits)
        if problem := self.problem():
            raise DefinitionError(f"these members cannot work in sequence: {problem}")

    async def coordinate(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Call the members in order; see `Coordination.coordinate`."""
        results: dict[str, Any] = {}
        for name in self.active():
            prediction = await self.call(name, {**values, **results})
            results |= prediction
        return {name: results[name] for name in self.contract().output_fields if name in results}

    def problem(self) -> str:
        """Return which input or output comes from nowhere, or an empty text."""
        names = list(self.contract().input_fields)
        for name in self.active():
            contract = self.members[name].contract()
            if missing := missing_inputs(contract, names):
                return f"{name!r} needs {missing[0]!r}, and nothing before it gives that"
            names += contract.output_fields
        for name, field in self.contract().output_fields.items():
            if field.is_required and name not in names:
                return f"no member gives {name!r}"
        return ""


def from_node(node: Node, builder: NodeBuilder, members: Mapping[str, Module]) -> Sequence:
    """Return the team of a stored node, with its members."""
    return Sequence(builder.signature(node), members, **team_options(node, builder)).restore_team(
        node
    )


KIND = team_kind(
    Sequence, from_node, summary="calls its members in order, each with the results so far"
)
