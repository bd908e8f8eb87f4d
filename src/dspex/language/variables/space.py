"""All variables of a program together."""

from collections.abc import Iterator, Mapping
from typing import Any

from dspex.errors import VariableError, suggest
from dspex.language.variables.variable import KINDS, Variable

Assignment = Mapping[str, Any]


class Space(Mapping[str, Variable]):
    """A frozen mapping from name to variable; those that an assignment leaves out keep their defaults."""

    __slots__ = ("_variables",)

    def __init__(self, variables: tuple[Variable, ...] = ()) -> None:
        """Take the variables; names are unique.

        Raises:
            VariableError: two variables have one name.
        """
        self._variables: dict[str, Variable] = {}
        for variable in variables:
            if variable.name in self._variables:
                raise VariableError(f"two variables are named {variable.name!r}; rename one of them")
            self._variables[variable.name] = variable

    def __getitem__(self, name: str) -> Variable:
        return self._variables[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._variables)

    def __len__(self) -> int:
        return len(self._variables)

    def __repr__(self) -> str:
        return f"Space({', '.join(self._variables)})"

    def check(self, assignment: Assignment) -> None:
        """Refuse an assignment that names an unknown variable or gives one a value of another kind.

        Raises:
            VariableError: naming the variable.
        """
        for name, value in assignment.items():
            if name not in self._variables:
                known = ", ".join(self._variables) or "none"
                hint = suggest(name, list(self._variables))
                raise VariableError(f"the program has no variable {name!r}.{hint} Its variables are: {known}")
            self._variables[name].check(value)

    def to_dict(self) -> list[dict[str, Any]]:
        """Return the space as JSON-ready data."""
        return [variable.to_dict() for variable in self._variables.values()]

    @classmethod
    def from_dict(cls, data: list[Mapping[str, Any]]) -> "Space":
        """Read what `to_dict` wrote."""
        for item in data:
            if item.get("kind") not in KINDS:
                raise VariableError(f"there is no kind of variable {item.get('kind')!r}; kinds are: {', '.join(KINDS)}")
        return cls(tuple(Variable(**{**item, "paths": tuple(item["paths"])}) for item in data))
