"""The runnable part that everything is composed of."""

import asyncio
import copy
import inspect
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, Never, Self

from dspex.errors import DefinitionError, ExecutionError, VariableError
from dspex.execution.context import Memo, Run, RunContext, entered, guarded
from dspex.execution.modules.asking import MOST_TRIES
from dspex.execution.modules.checking import UnmetError
from dspex.execution.modules.code import code_config, constructor_arguments
from dspex.execution.modules.defaults import remembered, standing_at
from dspex.execution.modules.files import read_state, write_state
from dspex.execution.modules.invocation import context_of, unfit_call
from dspex.execution.modules.slot import Slot
from dspex.execution.modules.source import hash_at_definition
from dspex.language.programs import Children, Node, Program, placed
from dspex.language.records import Prediction, Trace
from dspex.language.signatures import Signature
from dspex.language.variables import Assignment, Constraint, Space, Variable
from dspex.language.variables.conditions import check_conditions
from dspex.language.variables.sampling import explain_refusal
from dspex.sync import in_thread
from dspex.sync import run as run_sync
from dspex.telemetry import Finished, Status, StreamEvent

_PLACE = "_runs_on"


class Module:
    """Subclass it, make parts in `__init__`, and write `forward` (async or not) that calls them.

    A module is called with its inputs as keyword arguments: `module(question="...")`, or `await module.acall(...)`
    where a loop is running. Each call is one node of a trace. Modules are safe to call from many tasks and threads at
    once as long as `forward` leaves `self` alone.

    `isolation = "process"` in a class lets its stored programs run in a worker process.
    """

    isolation: ClassVar[Literal["inline", "process"]] = "inline"
    __source_hash__: str | None = None  # of the text that a user's class was compiled from

    def __init_subclass__(cls, **kwargs: Any) -> None:  # noqa: ANN401
        """Note the source as it is now: its file may be edited while the class is in use."""
        super().__init_subclass__(**kwargs)
        cls.__source_hash__ = hash_at_definition(cls)

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:  # noqa: ANN401
        """Note the constructor's arguments, from which a stored program is rebuilt."""
        made = super().__new__(cls)
        made.__dict__["_init"] = (args, kwargs)
        return made

    async def forward(self, **inputs: Any) -> Any:  # noqa: ANN401
        """Do the work; return a `Prediction` or a mapping of outputs. To be written by subclasses."""
        raise DefinitionError(f"{type(self).__name__} has no forward method; write `async def forward(self, ...)`")

    def __call__(self, context: RunContext | None = None, /, *misplaced: Never, **inputs: Any) -> Prediction:  # noqa: ANN401
        """Run to the end and return the prediction; the same as `await acall(...)`, for synchronous code."""
        if misplaced:
            self.context_of(context, *misplaced)
        return run_sync(self.acall(context, **inputs))

    async def acall(self, context: RunContext | None = None, /, **inputs: Any) -> Prediction:  # noqa: ANN401
        """Run in `context`, or in the one in force here.

        Raises:
            InvalidError: the inputs do not fit; every field is named.
            ConfigurationError: no model is set.
            ExecutionError: the work could not be done; the class says why.
        """
        given = self.context_of(context)
        if given.is_bounded or given.is_recorded:
            return await self.from_outside(given, inputs)
        if given.memo is not None and (known := given.memo.again(self, inputs)) is not None:
            return known
        run = given.run or Run(given.observer, given.clock, self._paths())
        first = len(run.spans)
        name = type(self).__name__
        path = run.paths.get(id(self), name)
        span = run.begin("module", name, parent_id=given.parent_id, path=path)
        inner = replace(given, run=run, parent_id=span.id, path=path, memo=None)
        if given.memo is not None and (found := given.memo.objections(self, inputs)):
            inner = replace(inner, objections=found)
        try:
            if given.emit is not None:
                await given.emit(Status(path, name, "begun"))
            outputs, attributes = await self._run(inner, inputs)
        except BaseException as error:
            span.end(error=error)
            raise
        span.end(attributes=attributes)
        if given.emit is not None:
            await given.emit(Status(path, name, "done"))
        trace = run.trace(span.id, first=first) if given.run else Trace(run.trace_id, tuple(run.spans))
        made = Prediction.of_run(outputs, trace)
        return made if given.memo is None else given.memo.keep(self, inputs, made)

    async def from_outside(self, given: RunContext, inputs: Mapping[str, Any]) -> Prediction:
        """Run in a context that records the run, or that watches over its deadline and cancellation."""
        if given.record is not None and given.is_recorded:
            return await given.record(self, given, inputs)
        return await guarded(given, partial(self.acall, **inputs))

    async def _run(
        self, context: RunContext, inputs: Mapping[str, Any]
    ) -> tuple[Mapping[str, object], dict[str, object]]:
        """Run `forward` in `context`; return its outputs and the attributes of the span.

        Where an `Assert` in it fails, it is run again, see `checking.Assert`.
        """
        memo, tries = Memo(), 0
        while True:
            try:
                with entered(replace(context, memo=memo)):
                    return await self._forward(inputs), {"asserted_again": tries} if tries else {}
            except UnmetError as unmet:
                after = memo.object_to(unmet.of, unmet.message) if tries < MOST_TRIES else None
                if after is None:
                    raise
                memo, tries = after, tries + 1

    async def _forward(self, inputs: Mapping[str, Any]) -> Mapping[str, object]:
        try:
            if inspect.iscoroutinefunction(self.forward):
                result = await self.forward(**inputs)
            else:
                result = await in_thread(self.forward, **inputs)
        except TypeError as error:
            if (unfit := unfit_call(type(self).__name__, self.forward, inputs)) is not None:
                raise unfit from error
            raise
        except SystemExit as error:  # out of a task it would end the loop, and with it all that runs beside this
            said = f"SystemExit({error.code!r})"
            raise ExecutionError(f"{type(self).__name__} asked to end the process: {said}; return or raise") from error
        if isinstance(result, Prediction):
            return result.to_dict()
        if isinstance(result, Mapping):
            return dict(result)
        raise DefinitionError(
            f"forward of {type(self).__name__} returned {type(result).__name__}; return a Prediction or a dict of "
            "outputs"
        )

    def context_of(self, context: RunContext | None, *misplaced: object) -> RunContext:
        """Return what a call runs in; see `invocation.context_of`."""
        if isinstance(context, RunContext) and not misplaced:
            return context
        return context_of(context, misplaced, name=type(self).__name__, contract=self.contract, forward=self.forward)

    async def stream(self, context: RunContext | None = None, /, **inputs: Any) -> AsyncIterator[StreamEvent]:  # noqa: ANN401
        """Run as `acall` does, and yield what happens meanwhile, from nested modules too; `Finished` comes last.

        Who takes events slowly holds the run back. Leaving the loop (with `aclose` or `contextlib.aclosing`) cancels
        the run and its request.

        Raises:
            DspexError: what `acall` raises, after the events before it.
        """
        events: asyncio.Queue[StreamEvent | None] = asyncio.Queue(maxsize=64)
        given = replace(self.context_of(context), emit=events.put)

        async def run() -> Prediction:
            try:
                return await self.acall(given, **inputs)
            finally:
                await events.put(None)

        task = asyncio.ensure_future(run())
        try:
            while (event := await events.get()) is not None:
                yield event
            yield Finished(await task)
        finally:
            await _ended(task, events)

    def children(self) -> Iterator[tuple[str, "Module"]]:
        """Yield (relative path, module) for each module in an attribute, or in lists and dicts there, to any depth."""
        for attribute, value in vars(self).items():
            if not attribute.startswith("_"):
                yield from _modules_in(attribute, value, ())

    def named_modules(self) -> Iterator[tuple[str, "Module"]]:
        """Yield (path, module) for this module ("self") and all below it; a module in two places has its first path."""
        seen: set[int] = set()

        def walk(path: str, module: Module) -> Iterator[tuple[str, Module]]:
            if id(module) in seen:
                return
            seen.add(id(module))
            yield path or "self", module
            for relative, child in module.children():
                yield from walk(f"{path}.{relative}" if path else relative, child)

        yield from walk("", self)

    def _paths(self) -> Mapping[int, str]:
        return {id(module): path for path, module in self.named_modules()}

    def contract(self) -> Signature:
        """Return the signature of the whole module: its own attribute `signature`, else the parameters of `forward`.

        Raises:
            DefinitionError: neither says what the outputs are.
        """
        declared = getattr(self, "signature", None)
        if declared is None:
            raise DefinitionError(
                f"{type(self).__name__} says nowhere what goes in and comes out; give the class `signature = "
                "'question -> answer'`"
            )
        return Signature.of(declared)

    def on(self, backend: str) -> Self:
        """Return a copy whose part of a stored program runs elsewhere: on "dspy", "isolated" or "mock".

        `dspex run`, the server and `HybridBackend` follow it. Called directly, a module runs here.
        """
        made = self._copied()
        made.__dict__[_PLACE] = backend
        return made

    def to_program(self, name: str = "") -> Program:
        """Return this module as data; `build` makes an equal module of it.

        Raises:
            DefinitionError: a constructor argument is not JSON; the message names it.
        """
        signature = self.contract()
        return Program(
            name=name or signature.name,
            signature=signature,
            root=placed(
                self.node("self"),
                {path: part.__dict__[_PLACE] for path, part in self.named_modules() if _PLACE in part.__dict__},
            ),
            space=self.variables(),
            assignment=self.assignment(),
        )

    def _all_slots(self) -> list[tuple[str, Slot]]:
        return [
            (f"{path}.{slot}", found) for path, part in self.named_modules() for slot, found in part.slots().items()
        ]

    def variables(self) -> Space:
        """Return all that may be varied in this module and below it.

        These are the variables declared in line or bound from outside (which replace those in line for the same
        places), and every slot (instructions, demonstrations) that none of them takes.
        """
        outside: tuple[Variable | Constraint, ...] = self.__dict__.get("_outside", ())
        bound = [item for item in outside if isinstance(item, Variable)]
        replaced = {path for variable in bound for path in variable.paths}
        declared = [variable for path, part in self.named_modules() for variable in part.own_variables(path)]
        found = [*(variable for variable in declared if not set(variable.paths) <= replaced), *bound]
        taken = {path for variable in found for path in variable.paths}
        free = [Variable(name=p, kind=slot.kind, paths=(p,)) for p, slot in self._all_slots() if p not in taken]
        everything = [*free, *found]
        constraints = [item for item in outside if isinstance(item, Constraint)]
        stored: tuple[str, ...] = self.__dict__.get("_order", ())
        if not stored:  # of what an earlier version stored, conditions are taken as they are
            check_conditions({variable.name: variable for variable in everything}, constraints)
        for path, part in self.named_modules():
            everything = [part.conditional(path, variable) for variable in everything]
        return Space.derived(everything, constraints, order=stored)  # a stored program keeps its content hash

    def own_variables(self, path: str) -> Sequence[Variable]:
        """Return the variables that were declared in line in this module, which is at `path`."""
        del path
        return ()

    def conditional(self, path: str, variable: Variable) -> Variable:
        """Return a variable below this module, which is at `path`, with the condition that this module puts on it."""
        del path
        return variable

    def with_variables(self, *more: Variable | Constraint) -> Self:
        """Return a copy in which some places are variable too, and constraints hold, from outside.

        A variable is bound by its paths (`Float(0, 1, name="heat", paths=("draft.temperature",))`), to one place or to
        several; one without paths is bound to the place that its name is, if it is one.

        Raises:
            VariableError: two variables have one name, or an expression reads an unknown one.
            DefinitionError: a path leads nowhere.
        """
        added = [self._bound_outside(item) if isinstance(item, Variable) else item for item in more]
        made = self._copied()
        made.__dict__["_outside"] = (*self.__dict__.get("_outside", ()), *added)
        made.variables().check_rewrites()  # `variables` raises where names or expressions do not fit together
        return made

    def _bound_outside(self, variable: Variable) -> Variable:
        if not variable.paths and self._place_of(variable.name) is not None:
            variable = replace(variable, paths=(variable.name,))
        for path in variable.paths:
            part, slot = self._found(path)
            if not part.takes(slot):
                raise DefinitionError(f"{type(part).__name__} takes no variable in the slot {slot!r} of {path!r}")
            part.check_variable(variable, path, slot)
        return standing_at(variable, [part.setting(slot) for part, slot in map(self._found, variable.paths)])

    def check_variable(self, variable: Variable, path: str, slot: str) -> None:
        """Refuse a variable that offers a value which `slot`, at `path`, does not take.

        Raises:
            VariableError: naming the variable, the path and the value.
        """
        for value in variable.sample_values(path):
            if said := self.unfit(slot, value):
                raise VariableError(f"variable {variable.name or path!r}: {path!r} takes {said}")

    def adopt(self, space: Space, assigned: Assignment) -> None:
        """Take over the variables and values of a stored program; for modules under construction."""
        own = self.variables()
        more = [variable for name, variable in space.items() if own.get(name) != variable]
        if more or space.constraints:
            self.__dict__["_outside"] = (*more, *space.constraints)
        self.__dict__["_order"] = tuple(space)
        values = remembered(space, assigned)
        if values:
            self.__dict__["_assigned"] = values

    def setting(self, slot: str) -> Any:  # noqa: ANN401  # any JSON value
        """Return what a slot that `bind` accepts is set to; None where it is not, or is no plain value."""
        name = self._setting(slot)
        return None if name is None else getattr(self, name)

    def takes(self, slot: str) -> bool:
        """Return whether `bind` accepts this slot: one of `slots`, or `config.k` where the module has a setting `k`.

        A setting is an attribute that holds a text, a number or a truth value.
        """
        return slot in self.slots() or self._setting(slot) is not None

    def _setting(self, slot: str) -> str | None:
        """Return the attribute that a slot such as `config.k` sets, if it is one."""
        mark, _, name = slot.partition(".")
        is_setting = isinstance(vars(self).get(name), str | int | float) and name != "signature" and name[0] != "_"
        return name if mark == "config" and is_setting else None

    def unfit(self, slot: str, value: object) -> str:
        """Return what `slot` takes and how to mend the value, or nothing where the value fits."""
        name = self._setting(slot)
        if name is None:
            return ""
        kind = type(getattr(self, name))
        fits = type(value) is kind or (kind is float and type(value) is int)
        return "" if fits else f"a value like {getattr(self, name)!r}, which it has: {kind.__name__}, not {value!r}"

    def _place_of(self, path: str) -> str | None:
        """Return the path of the deepest module that `path` leads into."""
        places = [place for place, _ in self.named_modules() if path.startswith(f"{place}.")]
        return max(places, key=len, default=None)

    def _found(self, path: str) -> tuple["Module", str]:
        parts, place = dict(self.named_modules()), self._place_of(path)
        if place is None:
            raise DefinitionError(f"the program has nothing at {path!r}; it has: {', '.join(parts)}")
        return parts[place], path[len(place) + 1 :]

    def assignment(self) -> dict[str, Any]:
        """Return the values that variables have here: assigned, or set at their places."""
        space = self.variables()
        slots = {path: found.value for path, found in self._all_slots() if found.value is not None and path in space}
        return {**slots, **self.__dict__.get("_assigned", {})}

    def state(self) -> Mapping[str, Any]:
        """Return what of this module itself was set or learned, as JSON values; `restore` takes it."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take what `state` of a module of the same kind returned."""

    def save(self, path: str | Path) -> None:
        """Write the state of this module and of all below it to a JSON file; a whole program where it can be one.

        No code and no key is written: what is no data (a model or adapter object) goes by its name.
        """
        parts = {path: state for path, part in self.named_modules() if (state := part.state())}
        try:
            program = self.to_program().to_dict()
        except DefinitionError:  # code that no import finds: its state can be loaded into a module, all the same
            program = None
        write_state(Path(path), parts=parts, program=program)

    def load(self, path: str | Path) -> None:
        """Take the state in a file that `save` wrote of a module of the same shape, or the values of a program's JSON.

        Raises:
            DefinitionError: the file is no such state, is newer than this dspex, or is of another shape.
        """
        parts = dict(self.named_modules())
        stored = read_state(Path(path))
        if missing := stored["parts"].keys() - parts.keys():
            raise DefinitionError(
                f"the state in {str(path)!r} has parts that this module lacks: {', '.join(sorted(missing))}"
            )
        for place, state in stored["parts"].items():
            parts[place].restore(state)
        for place, value in stored["values"].items():
            self.bind_path(place, value)

    def node(self, path: str) -> Node:
        """Return this module and all below it as data; one that a user wrote is its class and arguments."""
        below = "" if path == "self" else f"{path}."
        children: dict[str, Children] = {rel: child.node(f"{below}{rel}") for rel, child in self.children()}
        args, kwargs = self.__dict__["_init"]
        init = constructor_arguments(self, args, kwargs)
        config = code_config(type(self), init, source=self.__source_hash__)
        if type(self).isolation == "process":
            config["isolation"] = "process"
        return Node(id=path, kind="python", config=config, children=children)

    def slots(self) -> Mapping[str, Slot]:
        """Return what of this module itself (not of those below it) may be varied."""
        return {}

    def bind(self, slot: str, value: Any) -> None:  # noqa: ANN401  # any JSON value
        """Give one slot another value; only modules under construction are changed, never those that run.

        Raises:
            DefinitionError: there is no such slot.
        """
        if (name := self._setting(slot)) is not None:
            setattr(self, name, value)
            return
        known = ", ".join(self.slots()) or "none"
        raise DefinitionError(f"{type(self).__name__} has no slot {slot!r}; its slots are: {known}")

    def bind_path(self, path: str, value: Any) -> None:  # noqa: ANN401
        """Give the slot at the end of `path` another value, in this module or one below it.

        Raises:
            VariableError: the slot does not take the value.
            DefinitionError: the path leads nowhere.
        """
        part, slot = self._found(path)
        if said := part.unfit(slot, value):
            raise VariableError(f"{path!r} takes {said}")
        part.bind(slot, value)

    def shared(self) -> Sequence[object]:
        """Return what a copy of this module shares with it: values that are immutable or own resources."""
        return ()

    def assign(self, values: Assignment) -> Self:
        """Return a new module with other values for some of its variables, such as `{"self.demos": [...]}`.

        Raises:
            VariableError: a variable is unknown, a value is not of its kind or does not fit its place, or a constraint
                refuses the assignment; then the message says which one it would allow, if there is any.
        """
        known, space = self.__dict__.get("_assigned", {}), self.variables()
        assigned = {**known, **space.normalize(values)}
        # what was never assigned stays as the program has it, also where its variable has another default
        moved = {name for name, value in space.complete(known).items() if value != space[name].default} if known else ()
        made = self._copied()
        try:
            bound = list(space.bound(assigned, defaults_of=moved))
        except VariableError as error:
            raise explain_refusal(space, error) from error
        for path, value in bound:
            made.bind_path(path, value)
        made.__dict__["_assigned"] = remembered(made.variables(), assigned)
        return made

    def _copied(self) -> Self:
        kept = {id(item): item for _, part in self.named_modules() for item in part.shared() if item is not None}
        return copy.deepcopy(self, kept)


def _modules_in(path: str, value: object, above: tuple[int, ...]) -> Iterator[tuple[str, Module]]:
    """Yield (path, module) for `value`, if it is one, or those in it; `above` are the ids of what it lies in."""
    if isinstance(value, Module):
        yield path, value
    elif isinstance(value, list | tuple | dict) and id(value) not in above:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            yield from _modules_in(f"{path}[{key!r}]", item, (*above, id(value)))


async def _ended(task: "asyncio.Task[Prediction]", events: "asyncio.Queue[StreamEvent | None]") -> None:
    """Cancel a run that nobody listens to any more, and wait until it is over; its last event needs a place."""
    if task.done():
        return
    task.cancel()
    while not task.done():
        while not events.empty():
            events.get_nowait()
        await asyncio.wait({task}, timeout=0.01)
    if not task.cancelled():
        task.exception()
