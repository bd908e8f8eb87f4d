"""Supervisor: an agent whose tools are the members."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dspex.arguments import checks_names
from dspex.errors import CheckError, DefinitionError, ToolError
from dspex.execution.clients import LanguageModel
from dspex.execution.context import current
from dspex.execution.modules.agent_loop import TRAJECTORY
from dspex.execution.modules.agents.coordination import Coordination, team_options
from dspex.execution.modules.agents.members import Members, delegation_signature, missing_outputs
from dspex.execution.modules.agents.settings import team_kind
from dspex.execution.modules.agents.verification import Verifier
from dspex.execution.modules.chain_of_thought import ChainOfThought
from dspex.execution.modules.module import Module
from dspex.execution.modules.module_kind import NodeBuilder
from dspex.execution.modules.predict import Predict, SignatureT
from dspex.execution.modules.react import ReAct
from dspex.execution.modules.tool_data import tool_config, tool_of
from dspex.execution.team_run import TeamLimits
from dspex.execution.tools import Tool, ToolSet
from dspex.language.programs import Children, ModulePath, Node
from dspex.language.signatures import Signature
from dspex.language.variables import Variable

FORWARD = "forward"
_DESC = "the member whose last answer is the answer, word for word; none if you answer yourself"


@dataclass(frozen=True, slots=True)
class MemberCall:
    """Calls a member of the running team; a single output is returned as it is."""

    name: str
    outputs: tuple[str, ...]

    async def __call__(self, **arguments: Any) -> Any:
        """Return the outputs of the member."""
        team = current().frame.team
        if team is None or team.call is None:
            raise ToolError(f"{self.name} can be called only by its team")
        prediction = await team.call(self.name, arguments)
        values = {name: prediction[name] for name in self.outputs if name in prediction}
        return next(iter(values.values())) if len(values) == 1 else values


@checks_names
class Supervisor(Coordination[SignatureT]):
    """An agent (`ReAct`) that calls members as tools, and answers or forwards an answer.

    A member's inputs are the arguments of its tool, its role is the description. The agent ends
    with an answer of its own, or with the name of a member in its output `forward`: then the last
    answer of that member is returned word for word. A repeated call is refused once with the
    reason; the next repetition ends the run. The prediction has the `trajectory` of the agent.
    """

    kind = "supervisor"
    repeats = 1
    shows_roles = True

    def __init__(
        self,
        signature: type[SignatureT] | Signature | str,
        members: Members,
        *,
        tools: Iterable[Tool | Callable[..., Any]] = (),
        max_turns: int = 10,
        model: LanguageModel | str | Variable | None = None,
        verify: Verifier | None = None,
        attempts: int = 2,
        limits: TeamLimits | None = None,
    ) -> None:
        """Take the arguments of every coordination, and those of the agent.

        Args:
            signature: inputs and outputs of the team.
            members: the members, each of which becomes a tool.
            tools: functions that the agent may call itself.
            max_turns: the maximum number of turns of the agent.
            model: the model of the agent.
            verify: checks each answer; see `Coordination`.
            attempts: the maximum number of answers, if `verify` refuses some.
            limits: the limits of one run.

        Raises:
            DefinitionError: a tool is a module, or has the name of a member.
        """
        super().__init__(signature, members, verify=verify, attempts=attempts, limits=limits)
        self._tools: Sequence[Tool] = [*ToolSet(tools).values()]
        if modules := [tool.name for tool in self._tools if tool.module is not None]:
            raise DefinitionError(f"the tool {modules[0]!r} is a module: make it a member")
        names = [
            name
            for name, module in self.members.items()
            if not missing_outputs(module.contract(), self.signature)
        ]
        self.agent: ReAct[Any] = ReAct(
            delegation_signature(self.signature, FORWARD, names, desc=_DESC),
            self._all_tools(),
            max_turns=max_turns,
            model=model,
        )

    async def coordinate(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Run the agent; see `Coordination.coordinate`."""
        prediction = (await self.agent.acall(**values)).to_dict()
        name = prediction.pop(FORWARD)
        if name is None:
            return prediction
        team = current().frame.team
        answer = None if team is None else team.answers.get(str(name))
        if answer is None:
            raise CheckError(f"{FORWARD} names {name!r}, {_why_silent(str(name), prediction)}")
        answers = {key: answer[key] for key in self.contract().output_fields if key in answer}
        return {**prediction, **answers}

    def refresh(self) -> None:
        """Give the agent the active members as tools, with their roles."""
        self.agent.set_tools(self._all_tools())

    def _all_tools(self) -> ToolSet:
        members = [
            Tool(
                name=name,
                description=role,
                signature=self.members[name].contract(),
                call=MemberCall(name, tuple(self.members[name].contract().output_fields)),
            )
            for name, role in self.active_roles().items()
        ]
        return ToolSet([*members, *self._tools])

    def parts(self) -> Mapping[str, Module]:
        """Return the agent."""
        return {"agent": self.agent}

    def part_nodes(self, path: ModulePath) -> Mapping[str, Children]:
        """Return the predictors of the agent as data; its tools are the members."""
        agent = path.child("agent")
        return {
            "react": self.agent.react.node(agent.child("react")),
            "extract": self.agent.extract.node(agent.child("extract")),
        }

    def config(self) -> dict[str, Any]:
        """Return the configuration as JSON; see `Coordination.config`."""
        return {
            "max_turns": self.agent.max_turns,
            "tools": [tool_config(tool) for tool in self._tools],
        }


def _why_silent(name: str, prediction: Mapping[str, Any]) -> str:
    """Return why there is no answer of a member: its last error, if it was called."""
    errors = [
        step["error"]
        for step in prediction.get(TRAJECTORY, ())
        if step["tool"] == name and step["error"]
    ]
    return f"which failed: {errors[-1]}" if errors else "which has not answered"


def from_node(node: Node, builder: NodeBuilder, members: Mapping[str, Module]) -> Supervisor:
    """Return the team of a stored node, with its members."""
    team = Supervisor(
        builder.signature(node),
        members,
        tools=[tool_of(tool, {}, builder.code) for tool in node.config["tools"]],
        max_turns=node.config["max_turns"],
        **team_options(node, builder),
    )
    team.agent.react = builder.child(node, "react", Predict)
    team.agent.extract = builder.child(node, "extract", ChainOfThought)
    return team.restore_team(node)


KIND = team_kind(
    Supervisor,
    from_node,
    summary="an agent that calls its members as tools, and answers or forwards their answers",
    settings=("tools", "max_turns", "model"),
    lists=("tools",),
)
