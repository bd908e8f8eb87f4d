"""Team: how its members work together, and which of them, are variables."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from dspex.arguments import checks_names
from dspex.error_text import suggest
from dspex.errors import DefinitionError
from dspex.execution.modules.agents import blackboard, handoff, router, sequence, supervisor
from dspex.execution.modules.agents import map as team_map
from dspex.execution.modules.agents.coordination import Coordination, team_options
from dspex.execution.modules.agents.members import Members, inputs_for
from dspex.execution.modules.agents.settings import team_kind
from dspex.execution.modules.agents.verification import Verifier
from dspex.execution.modules.inner import AGENT_SETTINGS, inner_module, member_module
from dspex.execution.modules.module import Module
from dspex.execution.modules.module_kind import NodeBuilder
from dspex.execution.modules.predict import SignatureT
from dspex.execution.team_run import TeamLimits
from dspex.language.programs import Children, ModulePath, Node
from dspex.language.signatures import Signature
from dspex.language.variables import Expression, Variable, var

Restore = Callable[[Node, NodeBuilder, Mapping[str, Module]], Coordination[Any]]
SINGLE: Final = "single"
_COORDINATION, _MEMBER = "coordination", "members."
_WAYS: Final[Mapping[str, tuple[Callable[..., Coordination[Any]], Restore]]] = {
    "sequence": (sequence.Sequence, sequence.from_node),
    "map": (team_map.Map, team_map.from_node),
    "router": (router.Router, router.from_node),
    "supervisor": (supervisor.Supervisor, supervisor.from_node),
    "handoff": (handoff.Handoff, handoff.from_node),
    "blackboard": (blackboard.Blackboard, blackboard.from_node),
}


@checks_names
class Team(Coordination[SignatureT]):
    """A single agent, or members who work together in one of several ways; a search decides.

    Its variables are the `coordination` ("single", or a way to work together), the membership
    `members.NAME` of each member, and the role texts `roles.NAME`, beside the variables of its
    parts. Each is active only where it matters. A team without members is the single agent. The
    default is the single agent, so a search keeps it unless a team is better.
    """

    kind = "team"
    shows_roles = True
    repeats = 1

    def __init__(
        self,
        signature: type[SignatureT] | Signature | str,
        members: Members,
        *,
        single: Module | None = None,
        coordinations: Iterable[str] | Mapping[str, Coordination[Any]] | None = None,
        default: str = SINGLE,
        verify: Verifier | None = None,
        attempts: int = 2,
        limits: TeamLimits | None = None,
    ) -> None:
        """Take the arguments of every coordination, and the alternatives.

        Args:
            signature: inputs and outputs of the team, and of the single agent.
            members: the members, of which a search may choose some.
            single: the single agent; by default a `Predict` of the signature.
            coordinations: the names of ways to work together, or teams by name, which get these
                members in place of their own. By default all ways that suit the members.
            default: "single", or one of the coordinations.
            verify: checks each answer; see `Coordination`.
            attempts: the maximum number of answers, if `verify` refuses some.
            limits: the limits of one run.

        Raises:
            DefinitionError: a coordination is unknown or does not suit the members, or there is
                none.
        """
        super().__init__(signature, members, verify=verify, attempts=attempts, limits=limits)
        self.single: Module = inner_module(self.signature, {}) if single is None else single
        self.coordinations = self._teams(coordinations)
        self._choice = SINGLE
        for team in self.coordinations.values():
            team.join(self.members, self.roles)
        self.bind(_COORDINATION, default)

    def _teams(
        self, names: Iterable[str] | Mapping[str, Coordination[Any]] | None
    ) -> dict[str, Coordination[Any]]:
        if isinstance(names, Mapping):
            teams = dict(names)
        else:
            teams = {}
            for name in self._suitable() if names is None else names:
                if name not in _WAYS:
                    raise DefinitionError(
                        f"unknown coordination {name!r}.{suggest(name, list(_WAYS))} They are: "
                        f"{', '.join(_WAYS)}"
                    )
                teams[name] = _WAYS[name][0](self.signature, self.members)
        if not teams or SINGLE in teams:
            raise DefinitionError(
                f"a team needs at least one coordination, and {SINGLE!r} is always there"
            )
        return teams

    def _suitable(self) -> Iterator[str]:
        """Yield the ways in which the members can work; handoffs need members that hand over."""
        can_hand_over = any(
            handoff.HANDOFF in module.contract().output_fields for module in self.members.values()
        )
        for name, (create, _) in _WAYS.items():
            if (name == handoff.Handoff.kind) != can_hand_over:
                continue
            try:
                create(self.signature, self.members)
            except DefinitionError:
                continue
            yield name

    async def coordinate(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Work in the chosen way; see `Coordination.coordinate`."""
        if self._choice == SINGLE or not self.active():
            return await self.single.acall(**inputs_for(self.single, values))
        if problem := self.problem():
            raise DefinitionError(f"these members cannot work by {self._choice!r}: {problem}")
        return await self.coordinations[self._choice].coordinate(values)

    def problem(self) -> str:
        """Return why the active members cannot work in the chosen way, or an empty text."""
        if self._choice == SINGLE or not self.active():
            return ""
        return self.coordinations[self._choice].problem()

    def refresh(self) -> None:
        """Tell the coordinations which members are active, and their roles."""
        for team in self.coordinations.values():
            team.inactive = self.inactive
            team.refresh()

    def parts(self) -> Mapping[str, Module]:
        """Return the single agent and the coordinations."""
        teams = {f"coordinations[{name!r}]": team for name, team in self.coordinations.items()}
        return {SINGLE: self.single, **teams}

    def part_nodes(self, path: ModulePath) -> Mapping[str, Children]:
        """Return the single agent and the coordinations as data."""
        teams = {
            name: team.node(path.child(f"coordinations[{name!r}]"))
            for name, team in self.coordinations.items()
        }
        return {SINGLE: self.single.node(path.child(SINGLE)), "coordinations": teams}

    def config(self) -> dict[str, Any]:
        """Return the configuration as JSON; see `Coordination.config`."""
        return {_COORDINATION: self._choice}

    def span_attributes(self) -> dict[str, object]:
        """Return the coordination."""
        return {_COORDINATION: self._choice}

    def own_variables(self, path: ModulePath) -> list[Variable]:
        """Return the coordination and the membership."""
        choice, names = (
            path.place(_COORDINATION),
            {n: path.place(_MEMBER + n) for n in self.members},
        )
        return [
            Variable(
                name=choice,
                kind="module",
                options=(SINGLE, *self.coordinations),
                default=self._choice,
                paths=(choice,),
                desc="how the members work together",
            ),
            *(
                Variable(
                    name=place,
                    kind="boolean",
                    default=name not in self.inactive,
                    paths=(place,),
                    when=var(choice).differs(SINGLE),
                    desc=f"whether {name} is a member",
                )
                for name, place in names.items()
            ),
        ]

    def with_condition(self, path: ModulePath, variable: Variable) -> Variable:
        """Return a variable as active only while the part that it belongs to is at work."""
        choice = var(path.place(_COORDINATION))
        if variable.paths and _are_inside(variable, path.child(SINGLE)):
            return _when(variable, choice.equals(SINGLE))
        for name in self.coordinations:
            if variable.paths and _are_inside(variable, path.child(f"coordinations[{name!r}]")):
                return _when(variable, choice.equals(name))
        is_member = [path.child(f"members[{name!r}]") for name in self.members]
        if variable.paths and all(
            any(part.contains(place) for part in is_member) for place in variable.paths
        ):
            return self._when_member(path, _when(variable, choice.differs(SINGLE)))
        showing = [name for name, team in self.coordinations.items() if team.shows_roles]
        if variable.paths and all(
            place.startswith(path.place("roles.")) for place in variable.paths
        ):
            return _when(variable, choice.is_in(showing or [SINGLE]))
        return variable

    def _when_member(self, path: ModulePath, variable: Variable) -> Variable:
        """Return a variable of only one member as active only while that is a member."""
        for name in self.members:
            if _are_inside(variable, path.child(f"members[{name!r}]")):
                return _when(variable, var(path.place(_MEMBER + name)).equals(value=True))
        return variable

    def bind(self, slot: str, value: Any) -> None:
        """Set the coordination, a membership, a role text or a setting."""
        if slot == _COORDINATION:
            if expected := self.unfit(slot, value):
                raise DefinitionError(f"the coordination is {expected}")
            self._choice = value
        elif self._member(slot):
            self.inactive = self.inactive - {self._member(slot)}
            self.inactive |= set() if value else {self._member(slot)}
            self.refresh()
        else:
            super().bind(slot, value)

    def setting(self, slot: str) -> Any:
        """Return the coordination, a membership, a role text or a setting."""
        if slot == _COORDINATION:
            return self._choice
        return self._member(slot) in self.active() if self._member(slot) else super().setting(slot)

    def takes(self, slot: str) -> bool:
        """Return whether `bind` accepts this slot."""
        return slot == _COORDINATION or bool(self._member(slot)) or super().takes(slot)

    def unfit(self, slot: str, value: object) -> str:
        """Return what a slot accepts instead of `value`, or an empty text if it fits."""
        options = [SINGLE, *self.coordinations]
        if slot == _COORDINATION:
            hint = suggest(str(value), options)
            return "" if value in options else f"one of {', '.join(options)}, not {value!r}.{hint}"
        if self._member(slot):
            return "" if isinstance(value, bool) else f"true or false, not {value!r}"
        return super().unfit(slot, value)

    def _member(self, slot: str) -> str:
        name = slot.removeprefix(_MEMBER)
        return name if slot != name and name in self.members else ""


def _are_inside(variable: Variable, part: ModulePath) -> bool:
    return all(map(part.contains, variable.paths))


def _when(variable: Variable, condition: Expression) -> Variable:
    """Return a variable that is active only if `condition` holds, too."""
    if variable.when is None:
        return replace(variable, when=condition)
    if condition in variable.when.parts():  # a variable of a stored program already has it
        return variable
    return replace(variable, when=condition & variable.when)


def from_node(node: Node, builder: NodeBuilder, members: Mapping[str, Module]) -> Team:
    """Return the team of a stored node, with its members."""
    parts = node.children.get("coordinations")
    if not isinstance(parts, Mapping):
        raise DefinitionError(f"the team {node.id!r} has no coordinations")
    members = dict(members)
    team = Team(
        builder.signature(node),
        members,
        single=builder.child(node, SINGLE, Module),
        coordinations={name: _restore(part, builder, members) for name, part in parts.items()},
        default=node.config[_COORDINATION],
        **team_options(node, builder),
    )
    return team.restore_team(node)


def _restore(node: Node, builder: NodeBuilder, members: Mapping[str, Module]) -> Coordination[Any]:
    if node.kind not in _WAYS:
        raise DefinitionError(
            f"{node.id!r} is of kind {node.kind!r}, which is not a coordination of a team; they "
            f"are: {', '.join(_WAYS)}"
        )
    return _WAYS[node.kind][1](node, builder, members)


def _from_settings(signature: Signature, members: Members, **settings: Any) -> Team:
    single = settings.pop(SINGLE, {})
    if not isinstance(single, Mapping) or single.keys() - set(AGENT_SETTINGS):
        raise DefinitionError(
            f"`{SINGLE}` is an object with settings of a Predict or an agent, not {single!r}; they "
            f"are: {', '.join(AGENT_SETTINGS)}"
        )
    return Team(signature, members, single=member_module(signature, single), **settings)


KIND = team_kind(
    Team,
    from_node,
    summary="a single agent or members who work together; a search decides which, and how",
    settings=(SINGLE, "coordinations", "default"),
    create=_from_settings,
)
