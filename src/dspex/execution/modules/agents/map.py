"""Map: the members work at once, on the inputs or on each item of a list; then reduce."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dspex.arguments import checks_names
from dspex.error_text import shorten
from dspex.errors import DefinitionError, ExecutionError, boundary
from dspex.execution.modules.agents.coordination import Coordination, team_options
from dspex.execution.modules.agents.members import (
    Members,
    inputs_for,
    missing_inputs,
    missing_outputs,
)
from dspex.execution.modules.agents.settings import team_kind
from dspex.execution.modules.agents.verification import Verifier
from dspex.execution.modules.attempts import all_at_once, check_count
from dspex.execution.modules.code import function_config, load_function
from dspex.execution.modules.majority import most_frequent
from dspex.execution.modules.module import Module
from dspex.execution.modules.module_kind import NodeBuilder
from dspex.execution.modules.predict import SignatureT
from dspex.execution.team_run import TeamLimits
from dspex.language.programs import Node
from dspex.language.records import Prediction
from dspex.language.signatures import Signature

Reduction = Callable[[Sequence[Prediction]], Prediction | Mapping[str, Any]] | Module
ANSWERS = "answers"


@checks_names
class Map(Coordination[SignatureT]):
    """Calls all members at once and reduces their answers to one.

    Without `over`, each member gets the inputs of the team, and by default the most frequent value
    of the last output wins. With `over`, the name of an input that is a list, each member gets each
    item of it as its input `item`, and by default each output of the team is the list of theirs. A
    member that fails ends the run.
    """

    kind = "map"

    def __init__(
        self,
        signature: type[SignatureT] | Signature | str,
        members: Members | Module,
        *,
        over: str | None = None,
        item: str = "item",
        reduce: Reduction | None = None,
        concurrency: int = 16,
        verify: Verifier | None = None,
        attempts: int = 2,
        limits: TeamLimits | None = None,
    ) -> None:
        """Take the arguments of every coordination, and how the work is split and joined.

        Args:
            signature: inputs and outputs of the team.
            members: the members, or one module.
            over: the input whose items the members get one by one; None for the inputs as a whole.
            item: the name of the member input that gets one item.
            reduce: a function from the predictions, in order, to the outputs; or a module with the
                input `answers`, a list of their outputs (each a single value if there is only one),
                and with inputs of the team.
            concurrency: how many members work at once.
            verify: checks each answer; see `Coordination`.
            attempts: the maximum number of answers, if `verify` refuses some.
            limits: the limits of one run.

        Raises:
            DefinitionError: `over` is not an input, or `reduce` does not take the answers.
        """
        if isinstance(members, Module):
            members = {"worker": members}
        super().__init__(signature, members, verify=verify, attempts=attempts, limits=limits)
        self.over = over
        self.item = item
        self.reduce = reduce
        self.concurrency = check_count("concurrency", concurrency)
        if over is not None and over not in self.signature.input_fields:
            raise DefinitionError(
                f"the team has no input {over!r} to work over; inputs are: "
                f"{', '.join(self.signature.input_fields)}"
            )
        if isinstance(reduce, Module) and ANSWERS not in reduce.contract().input_fields:
            raise DefinitionError(f"the module `reduce` needs an input named {ANSWERS!r}")
        if problem := self.problem():
            raise DefinitionError(f"these members cannot work at once: {problem}")

    async def coordinate(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Call the members and reduce their answers; see `Coordination.coordinate`."""
        slots = asyncio.Semaphore(self.concurrency)

        async def work(name: str, inputs: Mapping[str, Any], mark: str) -> Prediction:
            async with slots:
                return await self.call(name, inputs, mark=mark)

        rows = [values] if self.over is None else self._rows(values)
        predictions = await all_at_once(
            [
                work(name, row, str(number))
                for number, row in enumerate(rows)
                for name in self.active()
            ]
        )
        return await self._reduce(values, predictions)

    def _rows(self, values: Mapping[str, Any]) -> list[dict[str, Any]]:
        items = values[str(self.over)]
        if not isinstance(items, list | tuple):
            raise ExecutionError(f"{self.over!r} must be a list, not {shorten(items)}")
        return [{**values, self.item: item} for item in items]

    async def _reduce(
        self, values: Mapping[str, Any], predictions: list[Prediction]
    ) -> Mapping[str, Any]:
        names = list(self.contract().output_fields)
        if isinstance(self.reduce, Module):
            answers = [_answer(prediction) for prediction in predictions]
            return await self.reduce.acall(**inputs_for(self.reduce, {**values, ANSWERS: answers}))
        if self.reduce is not None:
            with boundary(ExecutionError, "`reduce` of Map"):
                return self.reduce(predictions)
        if self.over is None:
            return most_frequent(predictions, field=names[-1])
        return {name: [prediction[name] for prediction in predictions] for name in names}

    def problem(self) -> str:
        """Return which input or output comes from nowhere, or an empty text."""
        names = [*self.contract().input_fields, *([] if self.over is None else [self.item])]
        for name in self.active():
            contract = self.members[name].contract()
            if missing := missing_inputs(contract, names):
                return f"{name!r} needs the input {missing[0]!r}"
            if self.reduce is None and (missing := missing_outputs(contract, self.contract())):
                return f"{name!r} does not give {missing[0]!r}, and there is no `reduce`"
        return ""

    def parts(self) -> Mapping[str, Module]:
        """Return `reduce`, if it is a module."""
        return {"reduce": self.reduce} if isinstance(self.reduce, Module) else {}

    def config(self) -> dict[str, Any]:
        """Return the configuration as JSON; see `Coordination.config`."""
        config: dict[str, Any] = {
            "over": self.over,
            "item": self.item,
            "concurrency": self.concurrency,
        }
        if self.reduce is not None and not isinstance(self.reduce, Module):
            config["reduce"] = function_config(self.reduce, "`reduce` of Map")
        return config


def _answer(prediction: Prediction) -> Any:
    outputs = prediction.to_dict()
    return next(iter(outputs.values())) if len(outputs) == 1 else outputs


def from_node(node: Node, builder: NodeBuilder, members: Mapping[str, Module]) -> Map:
    """Return the team of a stored node, with its members."""
    config = node.config
    reduce: Any = config.get("reduce")
    if "reduce" in node.children:
        reduce = builder.child(node, "reduce", Module)
    elif reduce is not None:
        reduce = load_function(reduce, builder.code, "`reduce` of Map")
    return Map(
        builder.signature(node),
        members,
        over=config["over"],
        item=config["item"],
        concurrency=config["concurrency"],
        reduce=reduce,
        **team_options(node, builder),
    ).restore_team(node)


KIND = team_kind(
    Map,
    from_node,
    summary="calls its members at once, on the inputs or on each item, and joins their answers",
    settings=("over", "item", "concurrency"),
    functions=("reduce",),
)
