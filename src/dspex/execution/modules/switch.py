"""A module that runs one of several alternatives; the choice is a variable."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, overload

from dspex.arguments import checks_names
from dspex.error_text import suggest
from dspex.errors import DefinitionError
from dspex.execution.modules.module import Module
from dspex.execution.modules.module_kind import ModuleKind, NodeBuilder
from dspex.language.programs import ModulePath, Node
from dspex.language.records.prediction import Outputs
from dspex.language.signatures import Signature
from dspex.language.variables import Choice, Expression, Variable, var
from dspex.language.variables.kinds import FIRST

_CHOICE = "self"  # the slot of the label; its variable is `<path>.self`


class Switch(Module[Outputs]):
    """Holds alternatives by label and runs the chosen one, by default the first.

    The choice is the variable `<path>.self`; the variables of an alternative are active only while
    it is chosen.
    """

    def __init__(
        self, alternatives: Mapping[str, Module[Outputs]], *, default: str | None = None
    ) -> None:
        """Take the alternatives.

        Raises:
            DefinitionError: there are no alternatives, or none has the label `default`.
        """
        if not alternatives:
            raise DefinitionError("a switch needs at least one alternative")
        self.alternatives = dict(alternatives)
        self.choice = next(iter(self.alternatives))
        if default is not None:
            self.bind(_CHOICE, default)

    def contract(self) -> Signature:
        """Return the signature of the chosen alternative."""
        return self.alternatives[self.choice].contract()

    async def forward(self, **inputs: Any) -> Any:
        """Run the chosen alternative."""
        return await self.alternatives[self.choice].acall(**inputs)

    def node(self, path: ModulePath) -> Node:
        """Return the switch and all its alternatives as data."""
        children = {
            label: module.node(path.child(f"alternatives[{label!r}]"))
            for label, module in self.alternatives.items()
        }
        first = next(iter(self.alternatives))
        config = {} if self.choice == first else {"chosen": self.choice}
        return Node(
            id=str(path),
            kind=KIND.name,
            signature=self.contract(),
            config=config,
            children={"alternatives": children},
        )

    def own_variables(self, path: ModulePath) -> Sequence[Variable]:
        """Return the choice."""
        name = path.place(_CHOICE)
        return [
            Variable(
                name=name,
                kind="module",
                options=tuple(self.alternatives),
                default=self.choice,
                paths=(name,),
            )
        ]

    def with_condition(self, path: ModulePath, variable: Variable) -> Variable:
        """Return a variable of an alternative as active only while the alternative is chosen."""
        for label in self.alternatives:
            alternative = path.child(f"alternatives[{label!r}]")
            if variable.paths and all(map(alternative.contains, variable.paths)):
                is_chosen = var(path.place(_CHOICE)).equals(label)
                if variable.when is None:
                    return replace(variable, when=is_chosen)
                # a variable of a stored program already has the condition
                return (
                    variable
                    if is_chosen in variable.when.parts()
                    else replace(variable, when=is_chosen & variable.when)
                )
        return variable

    def bind(self, slot: str, value: Any) -> None:
        """Choose an alternative by its label."""
        if slot != _CHOICE:
            super().bind(slot, value)
        if value not in self.alternatives:
            hint = suggest(str(value), list(self.alternatives))
            raise DefinitionError(
                f"unknown alternative {value!r}.{hint} Alternatives are: "
                f"{', '.join(self.alternatives)}"
            )
        self.choice = value

    def setting(self, slot: str) -> Any:
        """Return the chosen label."""
        return self.choice if slot == _CHOICE else super().setting(slot)

    def takes(self, slot: str) -> bool:
        """Return whether `bind` accepts this slot."""
        return slot == _CHOICE

    def unfit(self, slot: str, value: object) -> str:
        """Return the valid labels if `value` is not one of them, else an empty text."""
        if slot != _CHOICE or value in self.alternatives:
            return ""
        hint = suggest(str(value), list(self.alternatives))
        return f"the label of an alternative ({', '.join(self.alternatives)}), not {value!r}.{hint}"


JsonValue = str | int | float | bool | Sequence[Any] | Mapping[str, Any] | None


@overload
def OneOf(
    first: Module[Outputs],
    /,
    *more: Module[Outputs],
    default: Module | str | None = None,
) -> Switch[Outputs]: ...


@overload
def OneOf(
    first: JsonValue,
    /,
    *more: JsonValue,
    default: JsonValue = FIRST,
    weights: tuple[float, ...] = (),
    name: str = "",
    desc: str = "",
    paths: tuple[str, ...] = (),
    when: Expression | None = None,
    bindings: Mapping[str, Expression] | None = None,
) -> Variable: ...


@checks_names
def OneOf(  # noqa: N802  # reads as a type
    *options: Any,
    default: Any = FIRST,
    weights: tuple[float, ...] = (),
    name: str = "",
    desc: str = "",
    paths: tuple[str, ...] = (),
    when: Expression | None = None,
    bindings: Mapping[str, Expression] | None = None,
) -> Any:
    """Declare a choice between values (a `Choice`), or between modules (a `Switch`).

    Modules are labelled by class ("Predict", "ChainOfThought"), with a number for repeated classes.
    `default` is the option used until another is assigned, by default the first; for modules, the
    module or its label. The other arguments are those of `Choice`, of values only.

    Raises:
        VariableError: an option is neither a module nor a JSON value.
        DefinitionError: modules and values are mixed, or the default is not one of the options.
    """
    more: dict[str, Any] = {
        "weights": weights,
        "name": name,
        "desc": desc,
        "paths": paths,
        "when": when,
        "bindings": bindings,
    }
    are_modules = {isinstance(option, Module) for option in options}
    if True not in are_modules:
        return Choice(*options, default=default, **more)
    if len(are_modules) == 2:
        raise DefinitionError(f"OneOf takes either modules or values, not both: {options!r}")
    for unfit in (argument for argument in more if more[argument]):
        raise DefinitionError(
            f"OneOf of modules takes `default=`, not {unfit!r}; add constraints on the choice "
            "with `with_variables`"
        )
    return _switch_of(options, None if default is FIRST else default)


def _switch_of(modules: Sequence[Module], default: Module | str | None) -> Switch:
    alternatives: dict[str, Module] = {}
    for module in modules:
        name = type(module).__name__
        label = (
            name
            if name not in alternatives
            else f"{name}{sum(key.startswith(name) for key in alternatives) + 1}"
        )
        alternatives[label] = module
    if isinstance(default, Module):
        default = next(
            (label for label, module in alternatives.items() if module is default), repr(default)
        )
    return Switch(alternatives, default=default)


def _build(node: Node, builder: NodeBuilder) -> Switch:
    alternatives = builder.children(node, "alternatives")
    if not alternatives:
        raise DefinitionError(f"the switch {node.id!r} has no alternatives")
    return Switch(alternatives, default=node.config.get("chosen"))


KIND = ModuleKind(name="switch", summary="runs the chosen one of several modules", build=_build)
