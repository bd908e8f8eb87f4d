"""Coordination: what all teams have in common, whatever the order in which their members work."""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Final, Self

from dspex.error_text import shorten
from dspex.errors import BudgetError, CheckError, DeadlineError, DefinitionError, InputError
from dspex.execution.context import RunContext, call_guarded, current, use_context
from dspex.execution.modules.agents.members import Members, inputs_for, named_members
from dspex.execution.modules.agents.verification import (
    Verifier,
    check_verifier,
    objection,
    stored_verifier,
    verifier_data,
)
from dspex.execution.modules.attempts import attempt_context, check_count
from dspex.execution.modules.code import checks_config
from dspex.execution.modules.model_call import enforce_checks, note_suggestion
from dspex.execution.modules.module import Module
from dspex.execution.modules.module_kind import NodeBuilder
from dspex.execution.modules.predict import SignatureT
from dspex.execution.modules.runnable_module import RunOutputs
from dspex.execution.modules.slot import Slot
from dspex.execution.modules.tree import walk
from dspex.execution.team_run import TeamLimits, TeamRun
from dspex.language.programs import Children, ModulePath, Node
from dspex.language.records import Prediction
from dspex.language.signatures import Signature
from dspex.language.variables import Expression, Variable

TEAM_SETTINGS: Final = ("members", "attempts", "limits")
_ADVICE = "An earlier answer to this was refused: {reason}\nDo not repeat the mistake."
_ROLE = "roles."


class Coordination(Module[SignatureT]):
    """Base class of the ways in which members work together; subclasses define `coordinate`.

    The answer is checked against the signature and by `verify`. If it is refused, the team works
    again, at most `attempts` times in all, and every prompt says why. Then `CheckError` is raised.
    """

    kind: ClassVar[str]
    repeats: ClassVar[int] = (
        0  # repetitions that are reported to the team before the next one ends the run
    )
    shows_roles: ClassVar[bool] = False

    def __init__(
        self,
        signature: type[SignatureT] | Signature | str,
        members: Members,
        *,
        verify: Verifier | None = None,
        attempts: int = 2,
        limits: TeamLimits | None = None,
    ) -> None:
        """Take what all coordinations take.

        Args:
            signature: inputs and outputs of the team.
            members: modules by name. A text instead of a module is the role of a `Predict`.
            verify: checks each answer: a function of (inputs, prediction), or a module with a truth
                value as output; see `verification.objection`.
            attempts: the maximum number of answers, if `verify` refuses some.
            limits: the limits of one run, which all members share.

        Raises:
            DefinitionError: an argument does not fit.
        """
        self.signature: Signature = Signature.of(signature)
        self.members = named_members(members, self.signature)
        self.verify = check_verifier(verify)
        self.attempts = check_count("attempts", attempts)
        self.limits = _check_limits(limits)
        self.roles: dict[str, str] = {}
        self.inactive: frozenset[str] = frozenset()
        self._is_part = False

    def contract(self) -> Signature:
        """Return the signature."""
        return self.signature

    async def coordinate(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the outputs for validated inputs; call members with `call`.

        Raises:
            CheckError: there is no acceptable answer; the team may try again.
        """
        raise NotImplementedError

    async def run_in_context(self, context: RunContext, inputs: Mapping[str, Any]) -> RunOutputs:
        """Work until an answer is accepted; see `Module.run_in_context`."""
        values = self.contract().validate_inputs(inputs)
        run = TeamRun(self.limits, context.frame.team, repeats=self.repeats, call=self.call)
        context = context.within_team(run)
        answer = partial(self._answer, values=values)
        if self.limits.seconds is None:
            prediction = await answer(context)
        else:
            prediction = await _answer_within(self.limits.seconds, context, answer)
        return RunOutputs(prediction, {"route": list(run.route), **self.span_attributes()})

    def span_attributes(self) -> dict[str, object]:
        """Return attributes of the span of a run beside its `route`."""
        return {}

    async def _answer(self, context: RunContext, *, values: Mapping[str, Any]) -> Prediction:
        reason, before = "", ""
        for number in range(self.attempts):
            advice = {"": _ADVICE.format(reason=reason)} if reason else {}
            attempt = attempt_context(number, of=self.attempts, context=context, advice=advice)
            with use_context(attempt):
                try:
                    return await self._accepted(values)
                except CheckError as error:
                    reason, before = error.message, reason
        earlier = f"; the one before: {before}" if before not in {"", reason} else ""
        raise CheckError(
            f"none of {self.attempts} answers of {type(self).__name__} was accepted; the last "
            f"one: {reason}{earlier}"
        )

    async def _accepted(self, values: Mapping[str, Any]) -> Prediction:
        """Return one answer in the types of the signature, followed by what the team reports.

        Raises:
            CheckError: it does not fit the signature, or `verify` refuses it.
        """
        answer, contract, context = await self.coordinate(values), self.contract(), current()
        outputs = {name: answer[name] for name in contract.output_fields if name in answer}
        try:
            outputs = contract.validate_outputs(outputs)
        except InputError as error:
            raise CheckError(f"{shorten(outputs)}: {error.message}") from error
        enforce_checks(
            contract, outputs, partial(note_suggestion, context, path=context.frame.path)
        )
        if self.verify is not None:
            reason = await objection(self.verify, values, Prediction(outputs))
            if reason:
                raise CheckError(reason)
        return Prediction({**outputs, **{k: answer[k] for k in answer if k not in outputs}})

    async def call(self, name: str, values: Mapping[str, Any], *, mark: str = "") -> Prediction:
        """Call a member with those of `values` that are its inputs, as one turn.

        Args:
            name: the name of the member.
            values: inputs and results so far.
            mark: calls with different marks are never repetitions of each other.

        Raises:
            BudgetError: a limit of this team, or of one around it, is reached.
            RepetitionError: the call is a repetition.
        """
        context, module = current(), self.members[name]
        run = context.frame.team
        if run is None:
            raise DefinitionError("members can be called only while their team runs")
        inputs = inputs_for(module, values)
        key = run.begin_turn(name, inputs, f"{context.rollout} {mark}")
        prediction = await module.acall(context, **inputs)
        run.end_turn(name, key, prediction)
        return prediction

    def active(self) -> list[str]:
        """Return the names of the members that take part."""
        return [name for name in self.members if name not in self.inactive]

    def role(self, name: str) -> str:
        """Return what a member is for: its role text, or the instructions of its signature."""
        return self.roles.get(name) or self.members[name].contract().instructions

    def active_roles(self) -> dict[str, str]:
        """Return the roles of the members that take part, by name."""
        return {name: self.role(name) for name in self.active()}

    def problem(self) -> str:
        """Return why the active members cannot work together in this way, or an empty text."""
        return ""

    def without(self, name: str) -> Self:
        """Return a copy without one member.

        Raises:
            DefinitionError: there is no such member, or the others cannot do without it.
        """
        if name not in self.active():
            raise DefinitionError(
                f"there is no member {name!r}; members are: {', '.join(self.active())}"
            )
        team = self._copy()
        team.inactive |= {name}
        team.refresh()
        if not team.active():
            raise DefinitionError(f"{name!r} is the last member")
        if problem := team.problem():
            raise DefinitionError(f"the team cannot do without {name!r}: {problem}")
        return team

    def join(self, members: dict[str, Module], roles: dict[str, str]) -> None:
        """Become a part of a team, which has the members and their roles."""
        self.members, self.roles, self._is_part = members, roles, True
        self.refresh()

    def share(
        self, slot: str, variable: Variable, bindings: Mapping[str, Expression] | None = None
    ) -> Self:
        """Return a copy in which one variable sets a slot, such as "temperature", of all members.

        Args:
            slot: of the predictors in the members.
            variable: with a name.
            bindings: for some members by name, an expression from the variable to their value.

        Raises:
            DefinitionError: no member has the slot, or there is no member of this name.
        """
        places: dict[str, str] = {}
        module: Module = self
        for path, part in walk(module):
            owners = [n for n in self.members if f"{path}.".startswith(f"members[{n!r}].")]
            if owners and part.takes(slot):
                places[path.place(slot)] = owners[0]
        for name in bindings or {}:
            if name not in places.values():
                raise DefinitionError(f"there is no member {name!r} with a slot {slot!r}")
        if not places:
            raise DefinitionError(f"no member has a slot {slot!r}")
        expressions = {
            place: bindings[name] for place, name in places.items() if bindings and name in bindings
        }
        shared = replace(variable, paths=tuple(places), bindings=expressions)
        return self.with_variables(shared)

    def refresh(self) -> None:
        """Adapt the parts to the active members and their roles; only under construction."""

    def parts(self) -> Mapping[str, Module]:
        """Return the modules beside the members, by attribute."""
        return {}

    def part_nodes(self, path: ModulePath) -> Mapping[str, Children]:
        """Return the `parts` as data."""
        return {name: part.node(path.child(name)) for name, part in self.parts().items()}

    def children(self) -> Iterator[tuple[str, Module]]:
        """Yield the members, then the other parts."""
        yield from ((f"members[{name!r}]", module) for name, module in self.members.items())
        yield from self.parts().items()
        if isinstance(self.verify, Module):
            yield "verify", self.verify

    def slots(self) -> Mapping[str, Slot]:
        """Return the role texts, if the coordination shows them to a model."""
        if not self.shows_roles or self._is_part:
            return {}
        return {f"{_ROLE}{name}": Slot("text", self.roles.get(name)) for name in self.members}

    def bind(self, slot: str, value: Any) -> None:
        """Set a role text or a setting."""
        if slot in self.slots():
            self.roles[slot.removeprefix(_ROLE)] = value
            self.refresh()
        else:
            super().bind(slot, value)

    def setting(self, slot: str) -> Any:
        """Return the role text that a member has, or a setting."""
        return (
            self.role(slot.removeprefix(_ROLE)) if slot in self.slots() else super().setting(slot)
        )

    def unfit(self, slot: str, value: object) -> str:
        """Return what a slot accepts instead of `value`, or an empty text if it fits."""
        if slot in self.slots():
            return "" if isinstance(value, str) else f"text, not {shorten(value)}"
        return super().unfit(slot, value)

    def config(self) -> dict[str, Any]:
        """Return the configuration of the subclass as JSON."""
        return {}

    def node(self, path: ModulePath) -> Node:
        """Return the team as data.

        Raises:
            DefinitionError: `verify` is a function that cannot be found by import.
        """
        checks, verifier = verifier_data(self.verify, path)
        config: dict[str, Any] = {
            "attempts": self.attempts,
            "limits": self.limits.to_dict(),
            **self.config(),
            **checks,
            **checks_config(self.signature),
        }
        if self.roles and not self._is_part:
            config["roles"] = dict(self.roles)
        if self.inactive and not self._is_part:
            config["inactive"] = sorted(self.inactive)
        children: dict[str, Children] = dict(self.part_nodes(path))
        if not self._is_part:
            children["members"] = {
                name: module.node(path.child(f"members[{name!r}]"))
                for name, module in self.members.items()
            }
        return Node(
            id=str(path),
            kind=self.kind,
            signature=self.signature,
            config=config,
            children={**children, **verifier},
        )

    def restore_team(self, node: Node) -> Self:
        """Return this team with the roles and the membership of a stored node."""
        self.roles.update(node.config.get("roles", {}))
        self.inactive = frozenset(node.config.get("inactive", ()))
        self.refresh()
        return self


def team_options(node: Node, builder: NodeBuilder) -> dict[str, Any]:
    """Return the arguments of a stored node that all coordinations take."""
    return {
        "verify": stored_verifier(node, builder),
        "attempts": node.config["attempts"],
        "limits": TeamLimits.from_dict(node.config["limits"]),
    }


def team_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that all coordinations take, of settings in JSON.

    Raises:
        DefinitionError: the limits are not an object, or one of them is unknown.
    """
    options = {name: settings[name] for name in settings if name in {"attempts"}}
    if "limits" in settings:
        if not isinstance(settings["limits"], Mapping):
            raise DefinitionError(f"`limits` is an object, not {shorten(settings['limits'])}")
        options["limits"] = replace_limits(settings["limits"])
    return options


def replace_limits(data: Mapping[str, Any]) -> TeamLimits:
    """Return the default limits, with those in `data` in their place."""
    return TeamLimits.from_dict({**TeamLimits().to_dict(), **data})


async def _answer_within(
    seconds: float, context: RunContext, answer: Callable[[RunContext], Awaitable[Prediction]]
) -> Prediction:
    """Return the answer, which has to come within `seconds`.

    Raises:
        BudgetError: it did not.
        DeadlineError: the caller's own deadline, or that of a member, came earlier.
    """
    limited = context.within(seconds)
    try:
        return await call_guarded(limited, answer)
    except DeadlineError as error:
        is_over = limited.deadline is not None and context.clock.monotonic_ns() >= limited.deadline
        if limited is context or not is_over:
            raise
        message = f"the team has used its {seconds:g} seconds without an answer"
        raise BudgetError(message, limit="seconds") from error


def _check_limits(limits: TeamLimits | None) -> TeamLimits:
    if limits is None:
        return TeamLimits()
    if not isinstance(limits, TeamLimits):
        raise DefinitionError(
            f"`limits` takes a TeamLimits, such as TeamLimits(turns=20), not {shorten(limits)}"
        )
    return limits
