"""All variables of a program together."""

import math
from collections.abc import Container, Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any

from dspex.errors import VariableError, shorten, suggest
from dspex.language.variables.constraint import Constraint
from dspex.language.variables.expression import Expression
from dspex.language.variables.variable import Variable

Assignment = Mapping[str, Any]
MOST_PASSES = 100
_ALWAYS = ("module", "composite")


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
        """Return the space without some variables and without the constraints that read or rewrite them.

        Raises:
            VariableError: there is no such variable, or one that is left is computed from it.
        """
        for name in names:
            self._known(name)
        kept = [variable for name, variable in self._variables.items() if name not in names]
        return Space(kept, [rule for rule in self._constraints if not rule.reads() & set(names)])

    def check(self, assignment: Assignment) -> None:
        """Refuse an assignment that names an unknown variable or gives one a value of another kind.

        Raises:
            VariableError: naming the variable.
        """
        for name, value in assignment.items():
            self._known(name).check(value)

    def check_rewrites(self) -> None:
        """Refuse a constraint that would rewrite a variable to what it never takes.

        A space in which variables are held at one value may have such constraints: there they refuse.

        Raises:
            VariableError: naming the constraint and the variable.
        """
        for rule in self._constraints:
            for name, value in rule.rewrite.items():
                if self[name].kind == "composite" or not isinstance(value, Expression):
                    self._put(rule, {name: value})

    def taken(self, assignment: Assignment) -> dict[str, Any]:
        """Return an assignment with each value as it is used, see `Variable.taken`.

        Raises:
            VariableError: naming the variable that is unknown or whose value is of another kind.
        """
        return {name: self._known(name).taken(value) for name, value in assignment.items()}

    def complete(self, assignment: Assignment) -> dict[str, Any]:
        """Return `assignment` with defaults filled in, composites computed and constraints applied.

        Constraints are applied in their order, again and again until none of them rewrites anything: what comes out
        satisfies all of them. Inactive variables are left out, and so are texts and examples that have neither a value
        nor a default: there the program's own stands.

        Raises:
            VariableError: a value does not fit, a constraint refuses the assignment, or constraints undo one another's
                rewrites; all are named.
        """
        chosen = self.taken(assignment)
        seen, passes = [self._filled(chosen)], list[list[str]]()
        while len(passes) < MOST_PASSES:
            values, rewriting = self._applied(chosen, seen[-1])
            if not rewriting:
                return values
            passes.append(rewriting)
            if values in seen:
                break
            seen.append(values)
        names = list(dict.fromkeys(name for rewriting in passes for name in rewriting))
        raise VariableError(
            f"the constraints {', '.join(map(repr, names))} undo one another's rewrites without end (after "
            f"{len(passes)} passes); change one of the rewrites, or let one of them refuse",
            constraint=" and ".join(names),
        )

    def _applied(self, chosen: dict[str, Any], values: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """Apply each constraint once; return the values and which constraints rewrote `chosen`."""
        rewriting = []
        for rule in self._constraints:
            if rule.holds(values):
                continue
            chosen |= self._rewritten(rule, values)
            values = self._filled(chosen)
            rewriting.append(rule.name)
            if not rule.holds(values):
                raise _refused(rule, values, " even after its rewrite")
        return values, rewriting

    def _rewritten(self, rule: Constraint, values: Mapping[str, Any]) -> dict[str, Any]:
        if not rule.rewrite:
            raise _refused(rule, values)
        return self._put(rule, rule.rewritten(values))

    def _put(self, rule: Constraint, found: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a rewrite gives, as the variables take it."""
        try:
            return self.taken(found)
        except VariableError as error:
            said = f"the constraint {rule.name!r} cannot rewrite the assignment: {error.message}"
            raise VariableError(said, constraint=rule.name) from error

    def bound(self, assignment: Assignment, *, defaults_of: Container[str] | None = None) -> Iterator[tuple[str, Any]]:
        """Yield (path, value) for every place that a complete assignment sets, binding functions applied.

        Args:
            assignment: the values.
            defaults_of: the variables that have their defaults where they are not assigned; all by default. Where
                others are not assigned, the program's own values stand, unless a constraint says another one. A choice
                of a module always has its default: conditions hang on it.

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
            elif name in assignment:
                values[name] = variable.taken(assignment[name])
            elif variable.has_default:
                values[name] = variable.taken(variable.default)
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
        """Read what `to_dict` wrote.

        Raises:
            VariableError: `data` was not written by it.
        """
        found = data if isinstance(data, Mapping) else {"variables": data}
        variables, constraints = found.get("variables"), found.get("constraints", [])
        if not isinstance(variables, list | tuple) or not isinstance(constraints, list | tuple):
            said = "a stored space is a list of variables, or an object with `variables` and `constraints`"
            raise VariableError(f"{said}, not {shorten(data)}")
        return cls(map(Variable.from_dict, variables), map(Constraint.from_dict, constraints))

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
            _check_bindings(variable)
        for rule in self._constraints:
            for other in sorted(rule.reads()):
                self._known(other)
        try:
            return tuple(TopologicalSorter(needs).static_order())
        except CycleError as error:
            raise VariableError(f"variables depend on one another in a circle: {' -> '.join(error.args[1])}") from error


def _refused(rule: Constraint, values: Mapping[str, Any], when: str = "") -> VariableError:
    """Return the error for an assignment in which a constraint does not hold."""
    found = ", ".join(f"{name}={values[name]!r}" for name in sorted(set(rule.test.variables())))
    return VariableError(
        f"the constraint {rule.name!r} refuses the assignment: {rule.test} is not true{when} for {found}",
        constraint=rule.name,
    )


def _check_bindings(variable: Variable) -> None:
    """Refuse a binding of a place that the variable does not set, or one that reads another variable."""
    for path, binding in variable.bindings.items():
        if path not in variable.paths:
            hint = suggest(str(path), list(variable.paths))
            raise VariableError(
                f"variable {variable.name!r} has a binding for {path!r}, which is none of its paths.{hint} Its paths "
                f"are: {', '.join(variable.paths) or 'none'}"
            )
        if others := sorted(set(binding.variables()) - {variable.name}):
            raise VariableError(
                f"the binding of {path!r} reads {', '.join(others)}; a binding reads only its own variable, "
                f"var({variable.name!r}): declare a Composite for more"
            )


def _values(variable: Variable) -> float:
    if variable.kind == "float":
        return math.inf if variable.precision is None else _range(variable) * 10**variable.precision + 1
    if variable.kind == "integer":
        return _range(variable) // variable.step + 1
    return 2 if variable.kind == "boolean" else len(variable.options)


def _range(variable: Variable) -> float:
    return (variable.high or 0.0) - (variable.low or 0.0)
