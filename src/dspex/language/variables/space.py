"""The space of all variables of a program."""

import math
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from importlib import import_module
from typing import Any

from dspex.arguments import checks_names
from dspex.error_text import shorten, suggest
from dspex.errors import VariableError
from dspex.language.variables.conditions import check_conditions
from dspex.language.variables.constraint import Constraint
from dspex.language.variables.expression import Expression
from dspex.language.variables.variable import Variable

Assignment = Mapping[str, Any]
MOST_PASSES = 100
_ALWAYS = ("module", "composite")


@checks_names
class Space(Mapping[str, Variable]):
    """A frozen mapping from name to variable, and the constraints between them.

    Variables missing from an assignment have their defaults; inactive variables have no value.
    """

    __slots__ = ("_constraints", "_order", "_variables")

    def __init__(
        self, variables: Iterable[Variable] = (), constraints: Iterable[Constraint] = ()
    ) -> None:
        """Take variables with unique names, and constraints between them.

        Raises:
            VariableError: two variables share a name, an expression reads an unknown variable,
                variables depend on each other in a cycle, or a condition compares a variable with
                a value that it never has.
        """
        self._set(variables, constraints)
        check_conditions(self._variables, self._constraints)

    @classmethod
    def derived(
        cls,
        variables: Iterable[Variable],
        constraints: Iterable[Constraint] = (),
        *,
        order: Sequence[str] = (),
    ) -> "Space":
        """Return the space of earlier declarations, stored ones or parts of another space.

        Variables named in `order` come first.

        Its conditions are not looked at: what was stored by an earlier version still opens, and a
        part may lack the options that they name.
        """
        space = cls.__new__(cls)
        places = {name: place for place, name in enumerate(order)}
        variables = sorted(variables, key=lambda variable: places.get(variable.name, len(places)))
        space._set(variables, constraints)  # noqa: SLF001  # a second constructor
        return space

    def _repr_html_(self) -> str:
        module = import_module("dspex.language.variables.representation")
        markup: str = module.space_html(self)
        return markup

    def _set(self, variables: Iterable[Variable], constraints: Iterable[Constraint]) -> None:
        self._variables: dict[str, Variable] = {}
        for variable in variables:
            if variable.name in self._variables:
                raise VariableError(
                    f"two variables are named {variable.name!r}; rename one of them"
                )
            self._variables[variable.name] = variable
        self._constraints = tuple(constraints)
        self._order = self._sort()

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
        """The constraints in the order of application."""
        return self._constraints

    @property
    def order(self) -> tuple[str, ...]:
        """The names in dependency order: each after the variables that it reads."""
        return self._order

    def add(self, *added: Variable | Constraint) -> "Space":
        """Return the space with more variables or constraints."""
        variables = [item for item in added if isinstance(item, Variable)]
        constraints = [item for item in added if isinstance(item, Constraint)]
        return Space((*self._variables.values(), *variables), (*self._constraints, *constraints))

    def remove(self, *names: str) -> "Space":
        """Return the space without some variables and the constraints that use them.

        Raises:
            VariableError: a variable is unknown, or a remaining one depends on it.
        """
        for name in names:
            self._get(name)
        remaining = [variable for name, variable in self._variables.items() if name not in names]
        return Space.derived(
            remaining, [rule for rule in self._constraints if not rule.reads() & set(names)]
        )

    def check(self, assignment: Assignment) -> None:
        """Check that all names are known and all values fit.

        Raises:
            VariableError: a variable is unknown, or its value does not fit.
        """
        for name, value in assignment.items():
            self._get(name).check(value)

    def check_rewrites(self) -> None:
        """Check that no constraint rewrites a variable to a value that it never takes.

        A space with fixed variables may contain such constraints; there they refuse the assignment.

        Raises:
            VariableError: the message names the constraint and the variable.
        """
        for rule in self._constraints:
            for name, value in rule.rewrite.items():
                if self[name].kind == "composite" or not isinstance(value, Expression):
                    self._check_rewrite(rule, {name: value})

    def normalize(self, assignment: Assignment) -> dict[str, Any]:
        """Return the assignment with normalized values, see `Variable.normalize`.

        Raises:
            VariableError: a variable is unknown, or its value does not fit.
        """
        return {name: self._get(name).normalize(value) for name, value in assignment.items()}

    def complete(self, assignment: Assignment) -> dict[str, Any]:
        """Return `assignment` with defaults filled in, composites computed and constraints applied.

        Constraints are applied in order until none rewrites anything, so the result satisfies all
        of them. Inactive variables are left out, and so are texts and examples without a value or
        default, which keep the program's own.

        Raises:
            VariableError: a value does not fit, a constraint refuses the assignment, or constraints
                undo each other's rewrites; the message names them.
        """
        assigned = self.normalize(assignment)
        results, passes = [self._fill(assigned)], list[list[str]]()
        while len(passes) < MOST_PASSES:
            values, rewriting = self._apply_constraints(assigned, results[-1])
            if not rewriting:
                return values
            passes.append(rewriting)
            if values in results:
                break
            results.append(values)
        names = list(dict.fromkeys(name for rewriting in passes for name in rewriting))
        raise VariableError(
            f"the constraints {', '.join(map(repr, names))} undo each other's rewrites endlessly "
            f"(after {len(passes)} passes); change a rewrite, or remove one so that its constraint "
            "refuses",
            constraint=" and ".join(names),
        )

    def _apply_constraints(
        self, assigned: dict[str, Any], values: dict[str, Any]
    ) -> tuple[dict[str, Any], list[str]]:
        """Apply each constraint once; return the values, and the constraints that changed some."""
        rewriting = []
        for rule in self._constraints:
            if rule.holds(values):
                continue
            assigned |= self._rewrite(rule, values)
            values = self._fill(assigned)
            rewriting.append(rule.name)
            if not rule.holds(values):
                raise _refusal(rule, values, " even after its rewrite")
        return values, rewriting

    def _rewrite(self, rule: Constraint, values: Mapping[str, Any]) -> dict[str, Any]:
        if not rule.rewrite:
            raise _refusal(rule, values)
        return self._check_rewrite(rule, rule.rewritten(values))

    def _check_rewrite(self, rule: Constraint, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the normalized values of a rewrite."""
        try:
            return self.normalize(values)
        except VariableError as error:
            message = f"the constraint {rule.name!r} cannot rewrite the assignment: {error.message}"
            raise VariableError(message, constraint=rule.name) from error

    def bound(
        self, assignment: Assignment, *, defaults_of: Container[str] | None = None
    ) -> Iterator[tuple[str, Any]]:
        """Yield (path, value) for every path that an assignment sets, with bindings applied.

        Args:
            assignment: the values.
            defaults_of: the variables that fall back to their defaults; all by default. Other
                unassigned variables keep the program's own values, unless a constraint rewrites
                them. A choice of module always falls back to its default, because conditions depend
                on it.

        Raises:
            VariableError: a value does not fit, or a constraint refuses the assignment.
        """
        for name, value in self.complete(assignment).items():
            variable = self._variables[name]
            is_set = name in assignment or variable.kind in _ALWAYS or value != variable.default
            if not is_set and defaults_of is not None and name not in defaults_of:
                continue
            for path in variable.paths:
                binding = variable.bindings.get(path)
                yield path, value if binding is None else binding({name: value})

    def active(self, assignment: Assignment) -> frozenset[str]:
        """Return the names of the active variables."""
        return frozenset(name for name in self._order if name in self._fill(assignment))

    def is_active(self, name: str, values: Assignment) -> bool:
        """Return whether the condition of `name` holds for `values`."""
        when = self._variables[name].when
        return when is None or (set(when.variables()) <= set(values) and bool(when(values)))

    def _fill(self, assignment: Assignment) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for name in self._order:
            variable = self._variables[name]
            if not self.is_active(name, values):
                continue
            if variable.compute is not None:
                if set(variable.compute.variables()) <= set(values):
                    values[name] = variable.compute(values)
            elif name in assignment:
                values[name] = variable.normalize(assignment[name])
            elif variable.has_default:
                values[name] = variable.normalize(variable.default)
        return values

    @property
    def size(self) -> float:
        """The number of assignments without conditions and constraints; infinite with floats."""
        total = 1.0
        for variable in self._variables.values():
            if variable.is_searchable:
                total *= _values(variable)
        return total

    def to_dict(self) -> Any:
        """Return the space as JSON-ready data."""
        variables = [variable.to_dict() for variable in self._variables.values()]
        if not self._constraints:
            return variables
        return {
            "variables": variables,
            "constraints": [constraint.to_dict() for constraint in self._constraints],
        }

    @classmethod
    def from_dict(cls, data: Any) -> "Space":
        """Read what `to_dict` wrote.

        Raises:
            VariableError: `data` was not written by it.
        """
        parts = data if isinstance(data, Mapping) else {"variables": data}
        variables, constraints = parts.get("variables"), parts.get("constraints", [])
        if not isinstance(variables, list | tuple) or not isinstance(constraints, list | tuple):
            message = (
                "a stored space is a list of variables, or an object with `variables` and "
                "`constraints`"
            )
            raise VariableError(f"{message}, not {shorten(data)}")
        return cls.derived(
            map(Variable.from_dict, variables), map(Constraint.from_dict, constraints)
        )

    def _get(self, name: str) -> Variable:
        if name not in self._variables:
            names = ", ".join(self._variables) or "none"
            hint = suggest(name, list(self._variables))
            raise VariableError(
                f"the program has no variable {name!r}.{hint} Its variables are: {names}"
            )
        return self._variables[name]

    def _sort(self) -> tuple[str, ...]:
        needs: dict[str, list[str]] = {}
        for name, variable in self._variables.items():
            dependencies = [*(variable.when.variables() if variable.when is not None else ())]
            dependencies += variable.compute.variables() if variable.compute is not None else ()
            for dependency in dependencies:
                self._get(dependency)
            needs[name] = dependencies
            _check_bindings(variable)
        for rule in self._constraints:
            for dependency in sorted(rule.reads()):
                self._get(dependency)
        try:
            return tuple(TopologicalSorter(needs).static_order())
        except CycleError as error:
            raise VariableError(
                f"variables depend on each other in a cycle: {' -> '.join(error.args[1])}"
            ) from error


def _refusal(rule: Constraint, values: Mapping[str, Any], when: str = "") -> VariableError:
    """Return the error for an assignment that violates a constraint."""
    shown_values = ", ".join(
        f"{name}={values[name]!r}" for name in sorted(set(rule.test.variables()))
    )
    return VariableError(
        f"the constraint {rule.name!r} refuses the assignment: {rule.test} is not true{when} for "
        f"{shown_values}",
        constraint=rule.name,
    )


def _check_bindings(variable: Variable) -> None:
    """Check that bindings belong to paths of the variable and read no other variable."""
    for path, binding in variable.bindings.items():
        if path not in variable.paths:
            hint = suggest(str(path), list(variable.paths))
            raise VariableError(
                f"variable {variable.name!r} has a binding for {path!r}, which is not one of its "
                f"paths.{hint} Its paths are: {', '.join(variable.paths) or 'none'}"
            )
        if others := sorted(set(binding.variables()) - {variable.name}):
            raise VariableError(
                f"the binding of {path!r} reads {', '.join(others)}; a binding reads only its own "
                f"variable, var({variable.name!r}): declare a Composite for more"
            )


def _values(variable: Variable) -> float:
    if variable.kind == "float":
        return (
            math.inf
            if variable.precision is None
            else _range(variable) * 10**variable.precision + 1
        )
    if variable.kind == "integer":
        return _range(variable) // variable.step + 1
    return 2 if variable.kind == "boolean" else len(variable.options)


def _range(variable: Variable) -> float:
    return (variable.high or 0.0) - (variable.low or 0.0)
