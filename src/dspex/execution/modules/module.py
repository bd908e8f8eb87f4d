"""Module: the runnable building block of programs."""

import asyncio
import copy
import inspect
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, Never, Self

import msgspec

from dspex.errors import DefinitionError, ExecutionError, VariableError
from dspex.execution.context import RunContext, call_guarded, use_context
from dspex.execution.frame import Memo, TraceRecorder
from dspex.execution.modules.assertions import UnmetError
from dspex.execution.modules.code import code_config, constructor_arguments
from dspex.execution.modules.defaults import values_beside_slots, with_current_default
from dspex.execution.modules.files import read_state, write_state
from dspex.execution.modules.invocation import (
    call_problem,
    cancel_and_drain,
    check_arguments,
    context_of,
)
from dspex.execution.modules.model_call import MAX_RETRIES
from dspex.execution.modules.slot import Slot
from dspex.execution.modules.source import hash_at_definition
from dspex.language.programs import Children, Node, Program, with_backends
from dspex.language.records import Prediction, Trace
from dspex.language.signatures import Signature
from dspex.language.variables import Assignment, Constraint, Space, Variable
from dspex.language.variables.conditions import check_conditions
from dspex.language.variables.sampling import explain_refusal
from dspex.sync import in_thread
from dspex.sync import run as run_sync
from dspex.telemetry import Finished, Status, StreamEvent

_BACKEND = "_runs_on_backend"


class Module:
    """Base class of programs: create parts in `__init__`, call them in `forward` (sync or async).

    Call a module with its inputs as keyword arguments: `module(question="...")`, or
    `await module.acall(...)` inside an event loop. Each call is one node of a trace. Many tasks and
    threads may call a module at once if `forward` does not change `self`.

    With `isolation = "process"` in the class, its stored programs run in a worker process.
    """

    isolation: ClassVar[Literal["inline", "process"]] = "inline"
    __source_hash__: str | None = None  # hash of the source that a user's class was compiled from

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Record the source hash now, because the file may be edited while the class is in use."""
        super().__init_subclass__(**kwargs)
        cls.__source_hash__ = hash_at_definition(cls)

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Check and record the constructor arguments: a stored program is rebuilt from them."""
        if kwargs:
            check_arguments(cls.__init__, kwargs, owner=cls.__name__)
        instance = super().__new__(cls)
        instance.__dict__["_init"] = (args, kwargs)
        return instance

    async def forward(self, **inputs: Any) -> Any:
        """Compute and return a `Prediction` or a mapping of outputs. Subclasses implement it."""
        raise DefinitionError(
            f"{type(self).__name__} has no forward method; write `async def forward(self, ...)`"
        )

    def __call__(
        self,
        context: RunContext | None = None,
        /,
        *positional: Never,
        **inputs: Any,
    ) -> Prediction:
        """Run and return the prediction: the synchronous form of `await acall(...)`."""
        if positional:
            self.context_of(context, *positional)
        return run_sync(self.acall(context, **inputs))

    async def acall(self, context: RunContext | None = None, /, **inputs: Any) -> Prediction:
        """Run in `context`, by default the current one.

        Raises:
            InputError: the inputs are invalid; the message names every wrong field.
            ConfigurationError: no model is set.
            ExecutionError: the run failed; subclasses tell the cause.
        """
        context = self.context_of(context)
        if context.is_bounded or context.is_recorded:
            return await self.run_outermost(context, inputs)
        frame = context.frame
        memo, emit, objections = frame.memo, frame.emit, frame.objections
        if memo is not None:
            if (prediction := memo.recall(self, inputs)) is not None:
                return prediction
            objections = memo.objections(self, inputs) or objections
        run = frame.recorder or TraceRecorder(context.observer, context.clock, self._paths())
        first = len(run.spans)
        name = type(self).__name__
        path = run.paths.get(id(self), name)
        span = run.begin("module", name, parent_id=frame.span_id, path=path)
        inner = msgspec.structs.replace(
            frame, recorder=run, span_id=span.id, path=path, memo=None, objections=objections
        )
        try:
            if emit is not None:
                await emit(Status(path, name, "begun"))
            outputs, attributes = await self._run(replace(context, frame=inner), inputs)
        except BaseException as error:
            span.end(error=error)
            raise
        span.end(attributes=attributes)
        if emit is not None:
            await emit(Status(path, name, "done"))
        trace = (
            run.trace(span.id, first=first)
            if frame.recorder
            else Trace(run.trace_id, tuple(run.spans))
        )
        prediction = Prediction.of_run(outputs, trace)
        return prediction if memo is None else memo.record(self, inputs, prediction)

    async def run_outermost(self, context: RunContext, inputs: Mapping[str, Any]) -> Prediction:
        """Run in a context that records the run, or enforce its deadline and cancellation."""
        if context.record is not None and context.is_recorded:
            return await context.record(self, context, inputs)
        return await call_guarded(context, partial(self.acall, **inputs))

    async def _run(
        self, context: RunContext, inputs: Mapping[str, Any]
    ) -> tuple[Mapping[str, object], dict[str, object]]:
        """Run `forward` in `context`; return its outputs and the attributes of the span.

        If an `Assert` fails, it runs again, see `assertions.Assert`.
        """
        memo, tries = Memo(), 0
        while True:
            try:
                frame = msgspec.structs.replace(context.frame, memo=memo)
                with use_context(replace(context, frame=frame)):
                    return await self._forward(inputs), {"asserted_again": tries} if tries else {}
            except UnmetError as error:
                next_memo = (
                    memo.retry_with(error.of, error.message) if tries < MAX_RETRIES else None
                )
                if next_memo is None:
                    raise
                memo, tries = next_memo, tries + 1

    async def _forward(self, inputs: Mapping[str, Any]) -> Mapping[str, object]:
        try:
            if inspect.iscoroutinefunction(self.forward):
                result = await self.forward(**inputs)
            else:
                result = await in_thread(self.forward, **inputs)
        except TypeError as error:
            if (problem := call_problem(type(self).__name__, self.forward, inputs)) is not None:
                raise problem from error
            raise
        except SystemExit as error:  # it would end the event loop, and all other tasks with it
            code = f"SystemExit({error.code!r})"
            raise ExecutionError(
                f"{type(self).__name__} asked to end the process: {code}; return or raise"
            ) from error
        if isinstance(result, Prediction):
            return result.to_dict()
        if isinstance(result, Mapping):
            return dict(result)
        raise DefinitionError(
            f"forward of {type(self).__name__} returned {type(result).__name__}; return a "
            "Prediction or a dict of "
            "outputs"
        )

    def context_of(self, context: RunContext | None, *positional: object) -> RunContext:
        """Return the context of a call; see `invocation.context_of`."""
        if isinstance(context, RunContext) and not positional:
            return context
        return context_of(
            context,
            positional,
            name=type(self).__name__,
            contract=self.contract,
            forward=self.forward,
        )

    async def stream(
        self,
        context: RunContext | None = None,
        /,
        **inputs: Any,
    ) -> AsyncIterator[StreamEvent]:
        """Run like `acall` and yield the events of all modules; the last event is `Finished`.

        A slow consumer slows down the run. Closing the iterator (`aclose`, `contextlib.aclosing`)
        cancels the run and its requests.

        Raises:
            DspexError: the error of `acall`, after the events before it.
        """
        events: asyncio.Queue[StreamEvent | None] = asyncio.Queue(maxsize=64)
        stream_context = self.context_of(context).listening(emit=events.put)

        async def run() -> Prediction:
            try:
                return await self.acall(stream_context, **inputs)
            finally:
                await events.put(None)

        task = asyncio.ensure_future(run())
        try:
            while (event := await events.get()) is not None:
                yield event
            yield Finished(await task)
        finally:
            await cancel_and_drain(task, events)

    def children(self) -> Iterator[tuple[str, "Module"]]:
        """Yield (relative path, module) for modules in attributes, or in lists and dicts there."""
        for attribute, value in vars(self).items():
            if not attribute.startswith("_"):
                yield from _modules_in(attribute, value, ())

    def named_modules(self) -> Iterator[tuple[str, "Module"]]:
        """Yield (path, module) for this module ("self") and its descendants, each once."""
        visited: set[int] = set()

        def walk(path: str, module: Module) -> Iterator[tuple[str, Module]]:
            if id(module) in visited:
                return
            visited.add(id(module))
            yield path or "self", module
            for relative, child in module.children():
                yield from walk(f"{path}.{relative}" if path else relative, child)

        yield from walk("", self)

    def _paths(self) -> Mapping[int, str]:
        return {id(module): path for path, module in self.named_modules()}

    def contract(self) -> Signature:
        """Return the signature of the module: by default its attribute `signature`.

        Raises:
            DefinitionError: the module has no signature.
        """
        declared = getattr(self, "signature", None)
        if declared is None:
            raise DefinitionError(
                f"{type(self).__name__} has no signature; declare `signature = 'question -> "
                "answer'` in the class"
            )
        return Signature.of(declared)

    def on(self, backend: str) -> Self:
        """Return a copy that stored programs run on a backend: "dspy", "isolated" or "mock".

        `dspex run`, the server and `HybridBackend` follow it; direct calls run in this process.
        """
        module = self._deep_copy()
        module.__dict__[_BACKEND] = backend
        return module

    def to_program(self, name: str = "") -> Program:
        """Return this module as data; `build` turns it back into an equal module.

        Raises:
            DefinitionError: a constructor argument is not JSON; the message names it.
        """
        signature = self.contract()
        return Program(
            name=name or signature.name,
            signature=signature,
            root=with_backends(
                self.node("self"),
                {
                    path: part.__dict__[_BACKEND]
                    for path, part in self.named_modules()
                    if _BACKEND in part.__dict__
                },
            ),
            space=self.variables(),
            assignment=self.assignment(),
        )

    def _all_slots(self) -> list[tuple[str, Slot]]:
        return [
            (f"{path}.{name}", slot)
            for path, part in self.named_modules()
            for name, slot in part.slots().items()
        ]

    def variables(self) -> Space:
        """Return the space of all variables of this module and its descendants.

        These are the variables declared inline, the variables added by `with_variables` (which
        replace inline ones with the same paths), and all other slots (instructions,
        demonstrations).
        """
        additions: tuple[Variable | Constraint, ...] = self.__dict__.get("_added_variables", ())
        bound = [item for item in additions if isinstance(item, Variable)]
        bound_paths = {path for variable in bound for path in variable.paths}
        declared = [
            variable for path, part in self.named_modules() for variable in part.own_variables(path)
        ]
        variables = [
            *(variable for variable in declared if not set(variable.paths) <= bound_paths),
            *bound,
        ]
        taken_paths = {path for variable in variables for path in variable.paths}
        free = [
            Variable(name=p, kind=slot.kind, paths=(p,))
            for p, slot in self._all_slots()
            if p not in taken_paths
        ]
        items = [*free, *variables]
        constraints = [item for item in additions if isinstance(item, Constraint)]
        stored_order: tuple[str, ...] = self.__dict__.get("_order", ())
        if not stored_order:  # conditions that an earlier version stored are not checked
            check_conditions({variable.name: variable for variable in items}, constraints)
        for path, part in self.named_modules():
            items = [part.with_condition(path, variable) for variable in items]
        return Space.derived(
            items, constraints, order=stored_order
        )  # a stored program keeps its content hash

    def own_variables(self, path: str) -> Sequence[Variable]:
        """Return the variables declared inline in this module, which is at `path`."""
        del path
        return ()

    def with_condition(self, path: str, variable: Variable) -> Variable:
        """Return a descendant's variable with the condition of this module, which is at `path`."""
        del path
        return variable

    def with_variables(self, *additions: Variable | Constraint) -> Self:
        """Return a copy with additional variables and constraints.

        A variable is bound to one or more paths
        (`Float(0, 1, name="heat", paths=("draft.temperature",))`). Without `paths`, its name is its
        path if such a place exists.

        Raises:
            VariableError: two variables have the same name, or an expression reads an unknown one.
            DefinitionError: a path does not exist.
        """
        items = [
            self._resolve_variable(item) if isinstance(item, Variable) else item
            for item in additions
        ]
        module = self._deep_copy()
        module.__dict__["_added_variables"] = (*self.__dict__.get("_added_variables", ()), *items)
        # `variables` raises if names or expressions are inconsistent
        module.variables().check_rewrites()
        return module

    def _resolve_variable(self, variable: Variable) -> Variable:
        if not variable.paths and self._owner_path(variable.name) is not None:
            variable = replace(variable, paths=(variable.name,))
        for path in variable.paths:
            part, slot = self._resolve_path(path)
            if not part.takes(slot):
                raise DefinitionError(
                    f"{type(part).__name__} takes no variable in the slot {slot!r} of {path!r}"
                )
            part.check_variable(variable, path, slot)
        return with_current_default(
            variable, [part.setting(slot) for part, slot in map(self._resolve_path, variable.paths)]
        )

    def check_variable(self, variable: Variable, path: str, slot: str) -> None:
        """Raise if a variable has a value that `slot`, at `path`, does not accept.

        Raises:
            VariableError: the message names the variable, the path and the value.
        """
        for value in variable.sample_values(path):
            if expected := self.unfit(slot, value):
                raise VariableError(
                    f"variable {variable.name or path!r}: {path!r} takes {expected}"
                )

    def adopt(self, space: Space, assigned: Assignment) -> None:
        """Adopt variables and values of a stored program; only for modules under construction."""
        variables = self.variables()
        additions = [
            variable for name, variable in space.items() if variables.get(name) != variable
        ]
        if additions or space.constraints:
            self.__dict__["_added_variables"] = (*additions, *space.constraints)
        self.__dict__["_order"] = tuple(space)
        values = values_beside_slots(space, assigned)
        if values:
            self.__dict__["_assigned"] = values

    def setting(self, slot: str) -> Any:
        """Return the value of a slot that `bind` accepts; None if unset or not a plain value."""
        name = self._setting_attribute(slot)
        return None if name is None else getattr(self, name)

    def takes(self, slot: str) -> bool:
        """Return whether `bind` accepts this slot: one of `slots`, or `config.k` for a setting `k`.

        A setting is an attribute that holds a text, a number or a boolean.
        """
        return slot in self.slots() or self._setting_attribute(slot) is not None

    def _setting_attribute(self, slot: str) -> str | None:
        """Return the attribute behind a slot such as `config.k`, or None."""
        prefix, _, name = slot.partition(".")
        is_setting = (
            isinstance(vars(self).get(name), str | int | float)
            and name != "signature"
            and name[0] != "_"
        )
        return name if prefix == "config" and is_setting else None

    def unfit(self, slot: str, value: object) -> str:
        """Return what `slot` accepts instead of `value`, or an empty text if the value fits."""
        name = self._setting_attribute(slot)
        if name is None:
            return ""
        kind = type(getattr(self, name))
        fits = type(value) is kind or (kind is float and type(value) is int)
        return (
            "" if fits else f"a value like {getattr(self, name)!r}: {kind.__name__}, not {value!r}"
        )

    def _owner_path(self, path: str) -> str | None:
        """Return the path of the innermost module that contains `path`."""
        places = [place for place, _ in self.named_modules() if path.startswith(f"{place}.")]
        return max(places, key=len, default=None)

    def _resolve_path(self, path: str) -> tuple["Module", str]:
        parts, place = dict(self.named_modules()), self._owner_path(path)
        if place is None:
            raise DefinitionError(
                f"the program has nothing at {path!r}; it has: {', '.join(parts)}"
            )
        return parts[place], path[len(place) + 1 :]

    def assignment(self) -> dict[str, Any]:
        """Return the current values of variables: assigned, or set in their slots."""
        space = self.variables()
        slots = {
            path: slot.value
            for path, slot in self._all_slots()
            if slot.value is not None and path in space
        }
        return {**slots, **self.__dict__.get("_assigned", {})}

    def state(self) -> Mapping[str, Any]:
        """Return the state of this module without its descendants, as JSON; `restore` loads it."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Load the `state` of a module of the same kind."""

    def save(self, path: str | Path) -> None:
        """Write the state of this module and its descendants to a file, if possible as a program.

        The file has no code and no keys; objects (a model, an adapter) are saved by name.
        """
        parts = {path: state for path, part in self.named_modules() if (state := part.state())}
        try:
            program = self.to_program().to_dict()
        except DefinitionError:  # its code cannot be imported; its state still loads into a module
            program = None
        write_state(Path(path), parts=parts, program=program)

    def load(self, path: str | Path) -> None:
        """Load the state saved from a module of the same shape, or the values of a program.

        Raises:
            DefinitionError: the file is invalid, from a newer dspex, or of a different shape.
        """
        parts = dict(self.named_modules())
        saved = read_state(Path(path))
        if missing := saved["parts"].keys() - parts.keys():
            raise DefinitionError(
                f"the state in {str(path)!r} has parts that this module lacks: "
                f"{', '.join(sorted(missing))}"
            )
        for place, state in saved["parts"].items():
            parts[place].restore(state)
        for place, value in saved["values"].items():
            self.bind_path(place, value)

    def node(self, path: str) -> Node:
        """Return this module and its descendants as data: its class, arguments and children."""
        below = "" if path == "self" else f"{path}."
        children: dict[str, Children] = {
            rel: child.node(f"{below}{rel}") for rel, child in self.children()
        }
        args, kwargs = self.__dict__["_init"]
        init = constructor_arguments(self, args, kwargs)
        config = code_config(type(self), init, source=self.__source_hash__)
        if type(self).isolation == "process":
            config["isolation"] = "process"
        return Node(id=path, kind="python", config=config, children=children)

    def slots(self) -> Mapping[str, Slot]:
        """Return the variable slots of this module, without its descendants."""
        return {}

    def bind(self, slot: str, value: Any) -> None:
        """Set one slot; only for modules under construction, never for running ones.

        Raises:
            DefinitionError: the slot does not exist.
        """
        if (name := self._setting_attribute(slot)) is not None:
            setattr(self, name, value)
            return
        slots = ", ".join(self.slots()) or "none"
        raise DefinitionError(f"{type(self).__name__} has no slot {slot!r}; its slots are: {slots}")

    def bind_path(self, path: str, value: Any) -> None:
        """Set the slot at `path`, in this module or a descendant.

        Raises:
            VariableError: the slot does not accept the value.
            DefinitionError: the path does not exist.
        """
        part, slot = self._resolve_path(path)
        if expected := part.unfit(slot, value):
            raise VariableError(f"{path!r} takes {expected}")
        part.bind(slot, value)

    def shared(self) -> Sequence[object]:
        """Return the values that a copy shares with this module: immutable ones and resources."""
        return ()

    def assign(self, values: Assignment) -> Self:
        """Return a copy with new values for some of its variables, such as `{"self.demos": [...]}`.

        Raises:
            VariableError: a variable is unknown, a value has the wrong kind or does not fit its
                slot, or a constraint rejects the assignment; the message suggests an allowed one,
                if any.
        """
        previous, space = self.__dict__.get("_assigned", {}), self.variables()
        assigned = {**previous, **space.normalize(values)}
        # unassigned places keep their values, even if the default of their variable differs
        changed = (
            {
                name
                for name, value in space.complete(previous).items()
                if value != space[name].default
            }
            if previous
            else ()
        )
        module = self._deep_copy()
        try:
            bound = list(space.bound(assigned, defaults_of=changed))
        except VariableError as error:
            raise explain_refusal(space, error) from error
        for path, value in bound:
            module.bind_path(path, value)
        module.__dict__["_assigned"] = values_beside_slots(module.variables(), assigned)
        return module

    def _deep_copy(self) -> Self:
        memo = {
            id(item): item
            for _, part in self.named_modules()
            for item in part.shared()
            if item is not None
        }
        return copy.deepcopy(self, memo)


def _modules_in(path: str, value: object, above: tuple[int, ...]) -> Iterator[tuple[str, Module]]:
    """Yield (path, module) for the modules in `value`; `above` are the ids of its containers."""
    if isinstance(value, Module):
        yield path, value
    elif isinstance(value, list | tuple | dict) and id(value) not in above:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            yield from _modules_in(f"{path}[{key!r}]", item, (*above, id(value)))
