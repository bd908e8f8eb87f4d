"""Router: a model picks the member that answers."""

from collections.abc import Mapping
from typing import Any

from dspex.arguments import checks_names
from dspex.errors import CheckError, DefinitionError
from dspex.execution.clients import LanguageModel
from dspex.execution.modules.agents.coordination import Coordination, team_options
from dspex.execution.modules.agents.members import Members, missing_inputs, missing_outputs
from dspex.execution.modules.agents.settings import team_kind
from dspex.execution.modules.agents.verification import Verifier
from dspex.execution.modules.module import Module
from dspex.execution.modules.module_kind import NodeBuilder
from dspex.execution.modules.predict import Predict, SignatureT
from dspex.execution.team_run import TeamLimits
from dspex.language.programs import Node
from dspex.language.signatures import Signature
from dspex.language.variables import Variable

_MEMBERS, _MEMBER = "members", "member"


@checks_names
class Router(Coordination[SignatureT]):
    """Asks a model which member fits, and returns the answer of that member word for word.

    The part `choose` is a `Predict`; it sees the inputs and the roles of the members. Every member
    needs the outputs of the team.
    """

    kind = "router"
    shows_roles = True

    def __init__(
        self,
        signature: type[SignatureT] | Signature | str,
        members: Members,
        *,
        model: LanguageModel | str | Variable | None = None,
        verify: Verifier | None = None,
        attempts: int = 2,
        limits: TeamLimits | None = None,
    ) -> None:
        """Take the arguments of every coordination, and the `model` that chooses.

        Raises:
            DefinitionError: a member lacks an output of the team, or needs another input.
        """
        super().__init__(signature, members, verify=verify, attempts=attempts, limits=limits)
        if problem := self.problem():
            raise DefinitionError(f"these members cannot be routed to: {problem}")
        self.choose: Predict[Any] = Predict(
            _choice_signature(self.signature, list(self.members)), model=model
        )

    async def coordinate(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Choose a member and call it; see `Coordination.coordinate`."""
        roles = self.active_roles()
        if len(roles) == 1:
            return await self.call(next(iter(roles)), values)
        choice = await self.choose.acall(**values, **{_MEMBERS: roles})
        name = str(choice[_MEMBER])
        if name not in roles:
            raise CheckError(f"{name!r} is not a member; members are: {', '.join(roles)}")
        return await self.call(name, values)

    def problem(self) -> str:
        """Return which input or output of a member is missing, or an empty text."""
        return peer_problem(self, self.active())

    def parts(self) -> Mapping[str, Module]:
        """Return the predictor that chooses."""
        return {"choose": self.choose}


def peer_problem(team: Coordination[Any], names: list[str]) -> str:
    """Return why one of the members cannot answer in place of the team, or an empty text."""
    for name in names:
        contract = team.members[name].contract()
        if missing := missing_inputs(contract, list(team.contract().input_fields)):
            return f"{name!r} needs the input {missing[0]!r}"
        if missing := missing_outputs(contract, team.contract()):
            return f"{name!r} does not give {missing[0]!r}"
    return ""


def _choice_signature(signature: Signature, names: list[str]) -> Signature:
    instructions = (
        f"{signature.instructions}\n\nDo not do this yourself. Choose the member of the team that "
        f"should, by what `{_MEMBERS}` says about each."
    )
    labels = ", ".join(map(repr, names))
    choice = (
        signature.with_instructions(instructions)
        .append(_MEMBERS, "dict[str, str]", role="input", desc="what each member is for")
        .append(_MEMBER, f"Literal[{labels}]")
    )
    for name in signature.output_fields:
        choice = choice.remove(name)
    return choice


def from_node(node: Node, builder: NodeBuilder, members: Mapping[str, Module]) -> Router:
    """Return the team of a stored node, with its members."""
    team = Router(builder.signature(node), members, **team_options(node, builder))
    team.choose = builder.child(node, "choose", Predict)
    return team.restore_team(node)


KIND = team_kind(
    Router,
    from_node,
    summary="picks the member that answers, by the roles of the members",
    settings=("model",),
)
