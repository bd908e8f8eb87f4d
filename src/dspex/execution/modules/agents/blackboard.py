"""Blackboard: members work on shared state, each as soon as its inputs are there or change."""

from collections.abc import Mapping
from typing import Any

from dspex.arguments import checks_names
from dspex.errors import CheckError, DefinitionError
from dspex.execution.modules.agents.board import Board, board_fields
from dspex.execution.modules.agents.coordination import Coordination, team_options
from dspex.execution.modules.agents.members import Members
from dspex.execution.modules.agents.settings import team_kind
from dspex.execution.modules.agents.verification import Verifier
from dspex.execution.modules.attempts import all_at_once
from dspex.execution.modules.module import Module
from dspex.execution.modules.module_kind import NodeBuilder
from dspex.execution.modules.predict import SignatureT
from dspex.execution.team_run import TeamLimits
from dspex.language.programs import Node
from dspex.language.records import Prediction
from dspex.language.signatures import Signature


@checks_names
class Blackboard(Coordination[SignatureT]):
    """Members read their inputs from a typed board, and write their outputs to it.

    In each round all members whose required inputs are on the board, and which have not worked on
    their current versions, work at once. Their outputs are written in the order of the members by
    compare and set: if an input of a member has changed meanwhile, nothing of it is written, and it
    works again. The team ends when nobody has anything to do, or when the field `until` is true.
    """

    kind = "blackboard"

    def __init__(
        self,
        signature: type[SignatureT] | Signature | str,
        members: Members,
        *,
        until: str | None = None,
        verify: Verifier | None = None,
        attempts: int = 2,
        limits: TeamLimits | None = None,
    ) -> None:
        """Take the arguments of every coordination, and the field that ends the work.

        Raises:
            DefinitionError: two members have different types for one field, an output of the team
                comes from no member, or `until` is not true or false.
        """
        super().__init__(signature, members, verify=verify, attempts=attempts, limits=limits)
        self.until = until
        self._fields = board_fields(
            [self.signature, *(module.contract() for module in self.members.values())]
        )
        if until is not None and (
            until not in self._fields or self._fields[until].type.kind != "bool"
        ):
            raise DefinitionError(
                f"`until` names a field that is true or false, and {until!r} is not; fields are: "
                f"{', '.join(self._fields)}"
            )
        if problem := self.problem():
            raise DefinitionError(f"these members cannot work on a board: {problem}")

    async def coordinate(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Work in rounds; see `Coordination.coordinate`."""
        board = Board(self._fields)
        board.compare_and_set({}, values)
        seen: dict[str, dict[str, int]] = {}
        while not self._is_over(board):
            ready = [name for name in self.active() if self._is_ready(name, board, seen)]
            if not ready:
                break
            states = [board.read(self._inputs(name)) for name in ready]
            predictions = await all_at_once(
                [self.call(name, state) for name, (state, _) in zip(ready, states, strict=True)]
            )
            for name, (_, versions), prediction in zip(ready, states, predictions, strict=True):
                if board.compare_and_set(versions, self._outputs(name, prediction)):
                    written = board.read(self._outputs(name, prediction))[1]
                    seen[name] = versions | {k: written[k] for k in versions if k in written}
        outputs, _ = board.read(self.contract().output_fields)
        required = [
            key for key, field in self.contract().output_fields.items() if field.is_required
        ]
        if missing := [name for name in required if name not in outputs]:
            raise CheckError(
                f"nobody could give {', '.join(missing)}: inputs of members are missing"
            )
        return outputs

    def _inputs(self, name: str) -> list[str]:
        return list(self.members[name].contract().input_fields)

    def _outputs(self, name: str, prediction: Prediction) -> dict[str, Any]:
        fields = self.members[name].contract().output_fields
        return {key: prediction[key] for key in fields if key in prediction}

    def _is_over(self, board: Board) -> bool:
        return self.until is not None and bool(board.read([self.until])[0].get(self.until))

    def _is_ready(self, name: str, board: Board, seen: Mapping[str, Mapping[str, int]]) -> bool:
        values, versions = board.read(self._inputs(name))
        fields = self.members[name].contract().input_fields
        is_complete = all(key in values or not fields[key].is_required for key in fields)
        return is_complete and seen.get(name) != versions

    def problem(self) -> str:
        """Return which output comes from nowhere, or an empty text."""
        names = {
            *self.contract().input_fields,
            *(key for name in self.active() for key in self.members[name].contract().output_fields),
        }
        for key, field in self.contract().output_fields.items():
            if field.is_required and key not in names:
                return f"no member gives {key!r}"
        return ""

    def config(self) -> dict[str, Any]:
        """Return the configuration as JSON; see `Coordination.config`."""
        return {"until": self.until}


def from_node(node: Node, builder: NodeBuilder, members: Mapping[str, Module]) -> Blackboard:
    """Return the team of a stored node, with its members."""
    return Blackboard(
        builder.signature(node),
        members,
        until=node.config["until"],
        **team_options(node, builder),
    ).restore_team(node)


KIND = team_kind(
    Blackboard,
    from_node,
    summary="lets members work on typed shared state, as their inputs appear and change",
    settings=("until",),
)
