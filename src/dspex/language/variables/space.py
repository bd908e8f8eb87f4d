"""All variables of a program together."""

import math
from collections.abc import Container, Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any

from dspex.errors import VariableError, suggest
from dspex.language.variables.constraint import Constraint
from dspex.language.variables.variable import Variable

Assignment = Mapping[str, Any]


class Space(Mapping[str, Variable]):
    """A frozen mapping from name to variable, and the constraints between them.

    Variables that an assignment leaves out have their defaults; those whose condition does not hold have no value.
    """

    __slots__ = ("_constraints", "_order", "_variables")

    def __init__(self, variables: Iterable[Variable] = (), constraints: Iterable[Constraint] = ()) -> None:
        """Take the variables, whose names are unique, and what has to hold between them.

        Raises:
            VariableError: two variables have one name, an expression reads an unknown one, or they depend on one
                another in a circle.
        """
        self._variables: dict[str, Variable] = {}
        for variable in variables:
            if variable.name in self._variables:
                raise VariableError(f"two variables are named {variable.name!r}; rename one of them")
            self._variables[variable.name] = variable
        self._constraints = tuple(constraints)
        self._order = self._sorted()

    def __getitem__(self, name: str) -> Variable:
        return self._variables[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._variables)

    def __len__(self) -> int:
        return len(self._variables)

    def __repr__(self) -> str:
        return f"Space({', '.join(self._variables)})"

    @property
    def constraints(self) -> tuple[Constraint, ...]:
        """What has to hold between the variables, in the order of application."""
        return self._constraints

    @property
    def order(self) -> tuple[str, ...]:
        """The names, each after all that its condition and computation read."""
        return self._order

    def add(self, *added: Variable | Constraint) -> "Space":
        """Return the space with more variables or constraints."""
        variables = [item for item in added if isinstance(item, Variable)]
        constraints = [item for item in added if isinstance(item, Constraint)]
        return Space((*self._variables.values(), *variables), (*self._constraints, *constraints))

    def remove(self, *names: str) -> "Space":
        """Return the space without some variables and without the constraints that read them."""
        for name in names:
            self._known(name)
        kept = [variable for name, variable in self._variables.items() if name not in names]
        return Space(kept, [c for c in self._constraints if not set(c.test.variables()) & set(names)])

    def check(self, assignment: Assignment) -> None:
        """Refuse an assignment that names an unknown variable or gives one a value of another kind.

        Raises:
            VariableError: naming the variable.
        """
        for name, value in assignment.items():
            self._known(name).check(value)

    def complete(self, assignment: Assignment) -> dict[str, Any]:
        """Return `assignment` with defaults filled in, composites computed and constraints applied.

        Inactive variables are left out, and so are texts and examples that have neither a value nor a default: there
        the program's own stands.

        Raises:
            VariableError: a value does not fit, or a constraint refuses the assignment; both are named.
        """
        self.check(assignment)
        values = self._filled(assignment)
        for constraint in self._constraints:
            made = constraint.apply(values)
            if made is None:
                raise VariableError(
                    f"the constraint {constraint.name!r} refuses the assignment: {constraint.test} is not true",
                    constraint=constraint.name,
                )
            if made != values:
                chosen = {name: value for name, value in made.items() if self[name].kind != "composite"}
                self.check(chosen)
                values = self._filled(chosen)
        return values

    def bound(self, assignment: Assignment, *, defaults_of: Container[str] | None = None) -> Iterator[tuple[str, Any]]:
        """Yield (path, value) for every place that a complete assignment sets, binding functions applied.

        Args:
            assignment: the values.
            defaults_of: the variables that have their defaults where they are not assigned; all by default. Where
                others are not assigned, the program's own values stand, unless a constraint says another one.

        Raises:
            VariableError: a value does not fit, or a constraint refuses the assignment.
        """
        for name, value in self.complete(assignment).items():
            variable = self._variables[name]
            is_set = name in assignment or variable.compute is not None or value != variable.default
            if not is_set and defaults_of is not None and name not in defaults_of:
                continue
            for path in variable.paths:
                binding = variable.bindings.get(path)
                yield path, value if binding is None else binding({name: value})

    def active(self, assignment: Assignment) -> frozenset[str]:
        """Return the names of the variables whose conditions hold."""
        return frozenset(name for name in self._order if name in self._filled(assignment))

    def is_active(self, name: str, values: Assignment) -> bool:
        """Return whether the condition of `name` holds, given the values of what it reads."""
        when = self._variables[name].when
        return when is None or (set(when.variables()) <= set(values) and bool(when(values)))

    def _filled(self, assignment: Assignment) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for name in self._order:
            variable = self._variables[name]
            if not self.is_active(name, values):
                continue
            if variable.compute is not None:
                if set(variable.compute.variables()) <= set(values):
                    values[name] = variable.compute(values)
            elif name in assignment or variable.default is not None:
                values[name] = assignment.get(name, variable.default)
        return values

    @property
    def dimensions(self) -> int:
        """How many variables can be searched."""
        return sum(variable.is_searchable for variable in self._variables.values())

    @property
    def size(self) -> float:
        """How many assignments there are, conditions and constraints left aside; infinite with any float."""
        total = 1.0
        for variable in self._variables.values():
            if variable.is_searchable:
                total *= _values(variable)
        return total

    def to_dict(self) -> Any:  # noqa: ANN401  # a list, or an object where there are constraints
        """Return the space as JSON-ready data."""
        variables = [variable.to_dict() for variable in self._variables.values()]
        if not self._constraints:
            return variables
        return {"variables": variables, "constraints": [constraint.to_dict() for constraint in self._constraints]}

    @classmethod
    def from_dict(cls, data: Any) -> "Space":  # noqa: ANN401
        """Read what `to_dict` wrote."""
        found = data if isinstance(data, Mapping) else {"variables": data}
        return cls(
            [Variable.from_dict(item) for item in found["variables"]],
            [Constraint.from_dict(item) for item in found.get("constraints", ())],
        )

    def _known(self, name: str) -> Variable:
        if name not in self._variables:
            known = ", ".join(self._variables) or "none"
            hint = suggest(name, list(self._variables))
            raise VariableError(f"the program has no variable {name!r}.{hint} Its variables are: {known}")
        return self._variables[name]

    def _sorted(self) -> tuple[str, ...]:
        needs: dict[str, list[str]] = {}
        for name, variable in self._variables.items():
            read = [*(variable.when.variables() if variable.when is not None else ())]
            read += variable.compute.variables() if variable.compute is not None else ()
            for other in read:
                self._known(other)
            needs[name] = read
        for constraint in self._constraints:
            for other in [*constraint.test.variables(), *constraint.rewrite]:
                self._known(other)
        try:
            return tuple(TopologicalSorter(needs).static_order())
        except CycleError as error:
            raise VariableError(f"variables depend on one another in a circle: {' -> '.join(error.args[1])}") from error


def _values(variable: Variable) -> float:
    if variable.kind == "float":
        return math.inf if variable.precision is None else _range(variable) * 10**variable.precision + 1
    if variable.kind == "integer":
        return _range(variable) // variable.step + 1
    return 2 if variable.kind == "boolean" else len(variable.options)


def _range(variable: Variable) -> float:
    return (variable.high or 0.0) - (variable.low or 0.0)
