"""Handoff: the member at work answers, or hands the request over to another one."""

from collections.abc import Mapping
from typing import Any

from dspex.arguments import checks_names
from dspex.errors import CheckError, DefinitionError
from dspex.execution.modules.agents.coordination import Coordination, team_options
from dspex.execution.modules.agents.members import (
    Members,
    delegation_signature,
    missing_inputs,
    missing_outputs,
)
from dspex.execution.modules.agents.settings import team_kind
from dspex.execution.modules.agents.verification import Verifier
from dspex.execution.modules.module import Module
from dspex.execution.modules.module_kind import NodeBuilder
from dspex.execution.modules.predict import Predict, SignatureT
from dspex.execution.team_run import TeamLimits
from dspex.language.programs import Node
from dspex.language.signatures import Signature

HANDOFF, COLLEAGUES, VISITED = "handoff", "colleagues", "visited"
_FIELDS = {COLLEAGUES, VISITED}


def with_handoff(signature: type[Any] | Signature | str, *names: str) -> Signature:
    """Return the signature of a member that may hand over to others, by name.

    It has the output `handoff`, and the input `colleagues` with the roles of the others. The other
    outputs may be absent.

    Raises:
        DefinitionError: the signature has one of these fields.
    """
    desc = f"the colleague who should answer, by what `{COLLEAGUES}` says; none if you answer"
    return delegation_signature(Signature.of(signature), HANDOFF, names, desc=desc).append(
        COLLEAGUES, "dict[str, str]", role="input", desc="what each colleague is for"
    )


@checks_names
class Handoff(Coordination[SignatureT]):
    """Calls the first member; it answers, or hands over by its output `handoff`, and so on.

    A member hands over if its output `handoff` is the name of another one; a member without that
    output always answers. The next member gets the inputs of the team, and nothing of the way to
    it, unless it declares the inputs `colleagues` (the roles of the others by name) or `visited`
    (the members that handed over). The last answer is returned word for word. A handoff to itself,
    to a stranger, or without an answer is refused, and the team starts again with the reason.

    A text in the place of a member is the role of a `Predict` of `with_handoff(...)`, which is also
    the signature of members that are created over the API without one.
    """

    kind = "handoff"
    shows_roles = True

    def __init__(
        self,
        signature: type[SignatureT] | Signature | str,
        members: Members,
        *,
        start: str | None = None,
        verify: Verifier | None = None,
        attempts: int = 2,
        limits: TeamLimits | None = None,
    ) -> None:
        """Take the arguments of every coordination, and the member to `start` with.

        Raises:
            DefinitionError: there is no member `start`, or a member lacks an output of the team.
        """
        contract = Signature.of(signature)
        if isinstance(members, Mapping):
            members = {
                name: _member(contract, member, [key for key in members if key != name])
                for name, member in members.items()
            }
        super().__init__(contract, members, verify=verify, attempts=attempts, limits=limits)
        self.start = next(iter(self.members)) if start is None else start
        if self.start not in self.members:
            raise DefinitionError(
                f"there is no member {self.start!r} to start with; members are: "
                f"{', '.join(self.members)}"
            )
        if problem := self.problem():
            raise DefinitionError(f"these members cannot hand over: {problem}")

    async def coordinate(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Call members until one answers; see `Coordination.coordinate`."""
        roles = self.active_roles()
        name = self.start if self.start in roles else next(iter(roles))
        visited: list[str] = []
        while True:
            colleagues = {key: role for key, role in roles.items() if key != name}
            inputs = {**values, COLLEAGUES: colleagues, VISITED: list(visited)}
            prediction = await self.call(name, inputs)
            target = prediction.get(HANDOFF)
            if target is None or target == "":
                return {key: prediction[key] for key in prediction if key != HANDOFF}
            if target not in colleagues:
                problem = "itself" if target == name else f"{target!r}, which is not a member"
                raise CheckError(
                    f"{name!r} handed over to {problem}; it can hand over to: "
                    f"{', '.join(colleagues) or 'nobody'}, or answer"
                )
            visited.append(name)
            name = str(target)

    def problem(self) -> str:
        """Return which input or output of a member is missing, or an empty text."""
        for name in self.active():
            contract = self.members[name].contract()
            inputs = [*self.contract().input_fields, *_FIELDS]
            if missing := missing_inputs(contract, inputs):
                return f"{name!r} needs the input {missing[0]!r}"
            if missing := missing_outputs(contract, self.contract()):
                return f"{name!r} does not give {missing[0]!r}"
        return ""

    def config(self) -> dict[str, Any]:
        """Return the configuration as JSON; see `Coordination.config`."""
        return {"start": self.start}


def _member(signature: Signature, member: Module | str, names: list[str]) -> Module | str:
    if not isinstance(member, str):
        return member
    return Predict(with_handoff(signature.with_instructions(member), *names))


def from_node(node: Node, builder: NodeBuilder, members: Mapping[str, Module]) -> Handoff:
    """Return the team of a stored node, with its members."""
    return Handoff(
        builder.signature(node),
        members,
        start=node.config["start"],
        **team_options(node, builder),
    ).restore_team(node)


KIND = team_kind(
    Handoff,
    from_node,
    summary="calls a member that answers or hands over to another one",
    settings=("start",),
    contract_of=lambda signature, names: with_handoff(signature, *names),
)
