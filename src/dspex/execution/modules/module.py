"""Module: the runnable building block of programs."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, ParamSpec, Protocol, Self

from dspex.arguments import check_arguments
from dspex.errors import VariableError
from dspex.execution.modules.code import code_config, constructor_arguments
from dspex.execution.modules.defaults import values_beside_slots
from dspex.execution.modules.files import load_parts, save_parts
from dspex.execution.modules.runnable_module import RunnableModule
from dspex.execution.modules.slot import SlotHolder
from dspex.execution.modules.source import hash_at_definition
from dspex.execution.modules.tree import parts_in, walk
from dspex.execution.modules.variable_tree import VariableTree
from dspex.language.programs import ROOT, Children, ModulePath, Node, Program, with_backends
from dspex.language.records.prediction import Outputs
from dspex.language.signatures.signature import UNNAMED
from dspex.language.variables import Assignment, Constraint, Space, Variable
from dspex.language.variables.sampling import explain_refusal
from dspex.notebook import lazy_html

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from dspex.execution.context import RunContext
    from dspex.language.records import Prediction
    from dspex.telemetry import StreamEvent

P = ParamSpec("P")


class HasForward(Protocol[P]):
    """A module, for type checkers: the inputs of its calls are the parameters of `forward`."""

    def forward(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Compute the outputs."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """What a module remembers beside its attributes.

    - `args` and `kwargs` are the constructor arguments.
    - `backend` is where stored programs run it, None for where they run.
    - `additions` are variables and constraints of `with_variables`.
    - `order` has the names of the variables of the stored program that the module was built from.
    - `assigned` are the values of variables that no slot stores.
    """

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    backend: str | None = None
    additions: tuple[Variable | Constraint, ...] = ()
    order: tuple[str, ...] = ()
    assigned: Mapping[str, Any] = field(default_factory=dict)


class Module(RunnableModule[Outputs], SlotHolder):
    """Base class of programs: create parts in `__init__`, call them in `forward` (sync or async).

    Call a module with its inputs as keyword arguments: `module(question="...")`, or
    `await module.acall(...)` inside an event loop. Each call is one node of a trace. Many tasks and
    threads may call a module at once if `forward` does not change `self`.

    For type checkers, `class Router(Module[Triage])` predicts the outputs of the signature class
    `Triage`, and its inputs are the parameters of `forward`. If all of them have types, a module
    needs no attribute `signature`. With `isolation = "process"` in the class, its stored programs
    run in a worker process.
    """

    isolation: ClassVar[Literal["inline", "process"]] = "inline"
    __source_hash__: str | None = None  # hash of the source that a user's class was compiled from
    _declaration: Declaration

    if TYPE_CHECKING:  # the inputs are the parameters of `forward`

        def __call__(
            self: HasForward[P],
            context: RunContext | None = None,
            /,
            *positional: P.args,
            **inputs: P.kwargs,
        ) -> Prediction[Outputs]:
            """See `RunnableModule.__call__`."""
            ...

        async def acall(
            self: HasForward[P],
            context: RunContext | None = None,
            /,
            *positional: P.args,
            **inputs: P.kwargs,
        ) -> Prediction[Outputs]:
            """See `RunnableModule.acall`."""
            ...

        def stream(
            self: HasForward[P],
            context: RunContext | None = None,
            /,
            *positional: P.args,
            **inputs: P.kwargs,
        ) -> AsyncGenerator[StreamEvent, None]:
            """See `RunnableModule.stream`."""
            ...

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Record the source hash now, because the file may be edited while the class is in use."""
        super().__init_subclass__(**kwargs)
        cls.__source_hash__ = hash_at_definition(cls)

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Check and record the constructor arguments: a stored program is rebuilt from them."""
        if args or kwargs:  # a copy is made without
            check_arguments(cls.__init__, args, kwargs, name=cls.__name__)
        instance = super().__new__(cls)
        instance._declaration = Declaration(args=args, kwargs=kwargs)
        return instance

    def children(self) -> Iterator[tuple[str, "Module"]]:
        """Yield (relative path, module) for modules in attributes, or in lists and dicts there."""
        for attribute, value in vars(self).items():
            if not attribute.startswith("_"):
                yield from parts_in(attribute, value, Module)

    def named_modules(self) -> Iterator[tuple[str, "Module"]]:
        """Yield (path, module) for this module ("self") and its descendants, each once."""
        for path, part in walk(self):
            yield str(path), part

    def paths_by_id(self) -> Mapping[int, str]:
        """Return the path of this module and of each of its parts, by their `id()`."""
        return {id(part): path for path, part in self.named_modules()}

    def on(self, backend: str) -> Self:
        """Return a copy that stored programs run on a backend: "dspy", "isolated" or "mock".

        `dspex run`, the server and `HybridBackend` follow it; direct calls run in this process.
        """
        return self._copy(backend=backend)

    def runs_on(self) -> str | None:
        """Return the backend that `on` named for this module, without its parts; None if none."""
        return self._declaration.backend

    def to_program(self, name: str = "") -> Program:
        """Return this module as data; `build` turns it back into an equal module.

        Without `name`, the program has the name of its signature, or of the class of this module if
        the signature is a string and so has no name.

        Raises:
            DefinitionError: a constructor argument is not JSON; the message names it.
        """
        signature = self.contract()
        backends = {
            str(path): backend
            for path, part in walk(self)
            if (backend := part.runs_on()) is not None
        }
        return Program(
            name=name or (signature.name if signature.name != UNNAMED else type(self).__name__),
            signature=signature,
            root=with_backends(self.node(ROOT), backends),
            space=self.variables(),
            assignment=self.assignment(),
        )

    def node(self, path: ModulePath) -> Node:
        """Return this module and its descendants as data: its class, arguments and children."""
        children: dict[str, Children] = {
            name: child.node(path.child(name)) for name, child in self.children()
        }
        declaration = self._declaration
        init = constructor_arguments(self, declaration.args, declaration.kwargs)
        config = code_config(type(self), init, source=self.__source_hash__)
        if type(self).isolation == "process":
            config["isolation"] = "process"
        return Node(id=str(path), kind="python", config=config, children=children)

    def variables(self) -> Space:
        """Return the space of all variables of this module and its descendants.

        These are the variables declared inline, the variables added by `with_variables` (which
        replace inline ones with the same paths), and all other slots (instructions,
        demonstrations).
        """
        declaration = self._declaration
        return VariableTree(walk(self)).space(declaration.additions, order=declaration.order)

    def with_variables(self, *additions: Variable | Constraint) -> Self:
        """Return a copy with additional variables and constraints.

        A variable is bound to one or more paths
        (`Float(0, 1, name="heat", paths=("draft.temperature",))`). Without `paths`, its name is its
        path if such a place exists.

        Raises:
            VariableError: two variables have the same name, or an expression reads an unknown one.
            DefinitionError: a path does not exist.
        """
        tree = VariableTree(walk(self))
        items = [tree.resolve(item) if isinstance(item, Variable) else item for item in additions]
        module = self._copy(additions=(*self._declaration.additions, *items))
        # `variables` raises if names or expressions are inconsistent
        module.variables().check_rewrites()
        return module

    def adopt(self, space: Space, assigned: Assignment) -> None:
        """Adopt variables and values of a stored program; only for modules under construction."""
        declared = VariableTree(walk(self)).space()
        additions = [variable for name, variable in space.items() if declared.get(name) != variable]
        self._declaration = replace(
            self._declaration,
            additions=(*additions, *space.constraints),
            order=tuple(space),
            assigned=values_beside_slots(space, assigned),
        )

    def keep_values(self, values: Assignment) -> None:
        """Keep values of variables that no slot stores; only for modules under construction."""
        self._declaration = replace(self._declaration, assigned=values)

    def assignment(self) -> dict[str, Any]:
        """Return the current values of variables: assigned, or set in their slots."""
        space, slots = self.variables(), VariableTree(walk(self)).values()
        stored = {place: value for place, value in slots.items() if place in space}
        return {**stored, **self._declaration.assigned}

    def bind_path(self, path: str, value: Any) -> None:
        """Set the slot at `path`, in this module or a descendant.

        Raises:
            VariableError: the slot does not accept the value.
            DefinitionError: the path does not exist.
        """
        VariableTree(walk(self)).bind(path, value)

    def assign(self, values: Assignment) -> Self:
        """Return a copy with new values for some of its variables, such as `{"self.demos": [...]}`.

        Raises:
            VariableError: a variable is unknown, a value has the wrong kind or does not fit its
                slot, or a constraint rejects the assignment; the message suggests an allowed one,
                if any.
        """
        previous, space = self._declaration.assigned, self.variables()
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
        module = self._copy()
        tree = VariableTree(walk(module))
        try:
            bound = list(space.bound(assigned, defaults_of=changed))
        except VariableError as error:
            raise explain_refusal(space, error) from error
        for place, value in bound:
            tree.bind(place, value)
        module.keep_values(values_beside_slots(module.variables(), assigned))
        return module

    def state(self) -> Mapping[str, Any]:
        """Return the state of this module without its descendants, as JSON; `restore` loads it."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Load the `state` of a module of the same kind."""

    def save(self, path: str | Path) -> None:
        """Write the state of this module and its descendants to a file, if possible as a program.

        The file has no code and no keys; objects (a model, an adapter) are saved by name.
        """
        save_parts(Path(path), dict(self.named_modules()), self.to_program)

    def load(self, path: str | Path) -> None:
        """Load the state saved from a module of the same shape, or the values of a program.

        Raises:
            DefinitionError: the file is invalid, from a newer dspex, or of a different shape.
        """
        for place, value in load_parts(Path(path), dict(self.named_modules())).items():
            self.bind_path(place, value)

    def __repr__(self) -> str:
        parts = ", ".join(name for name, _ in self.children())
        return f"<{type(self).__name__}{f': {parts}' if parts else ''}>"

    _repr_html_ = lazy_html("dspex.execution.modules.representation:module_html")

    def shared(self) -> Sequence[object]:
        """Return the values that a copy shares with this module: immutable ones and resources."""
        return ()

    def _copy(self, **changes: Any) -> Self:
        """Return a deep copy, except of what is `shared`, with changes of its declaration."""
        memo: dict[int, Any] = {
            id(item): item for _, part in walk(self) for item in part.shared() if item is not None
        }
        declaration = copy.deepcopy(self._declaration, memo)
        memo[id(self._declaration)] = replace(declaration, **changes)
        return copy.deepcopy(self, memo)
