"""What has to hold between variables."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dspex.errors import VariableError, shorten
from dspex.language.variables.expression import Expression, no_expression


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """A test on an assignment. Where it fails, the assignment is rewritten, or refused where nothing says how.

    What a rewrite made is tested again, by this constraint and by all others.

    Args:
        name: what errors call it.
        test: has to be true. A test that reads an inactive variable holds.
        rewrite: by variable name, the value to put there where the test fails.
    """

    name: str
    test: Expression
    rewrite: Mapping[str, Expression | Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what is no test or no rewrite.

        Raises:
            VariableError: naming the part and how it is written.
        """
        if not isinstance(self.name, str):
            raise VariableError(f"the name of a constraint is text, not {self.name!r}")
        what = f"the test of the constraint {self.name!r}"
        if said := no_expression(self.test, what):
            raise VariableError(said, constraint=self.name)
        if not isinstance(self.rewrite, Mapping) or not all(isinstance(name, str) for name in self.rewrite):
            said = f"a rewrite gives values by variable name, such as {{'a': 1}}, not {shorten(self.rewrite)}"
            raise VariableError(f"the constraint {self.name!r}: {said}", constraint=self.name)
        for name, value in self.rewrite.items():
            if callable(value) and (said := no_expression(value, f"the rewrite of {name!r} in {self.name!r}")):
                raise VariableError(said, constraint=self.name)

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Return whether the test is true, or reads a variable that has no value."""
        return not set(self.test.variables()) <= set(values) or bool(self.test(values))

    def reads(self) -> set[str]:
        """Return the names of the variables that its test and its rewrites read or set."""
        read = {name for value in self.rewrite.values() if isinstance(value, Expression) for name in value.variables()}
        return {*self.test.variables(), *self.rewrite, *read}

    def rewritten(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values that its rewrites give, by variable name."""
        return {name: value(values) if isinstance(value, Expression) else value for name, value in self.rewrite.items()}

    def to_dict(self) -> dict[str, Any]:
        """Return the constraint as JSON-ready data."""
        rewrite = {
            name: {"expression": value.to_data()} if isinstance(value, Expression) else {"value": value}
            for name, value in self.rewrite.items()
        }
        return {"name": self.name, "test": self.test.to_data(), "rewrite": rewrite}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Constraint":
        """Read what `to_dict` wrote.

        Raises:
            VariableError: `data` was not written by it.
        """
        try:
            rewrite = {
                name: Expression.from_data(value["expression"]) if "expression" in value else value["value"]
                for name, value in data.get("rewrite", {}).items()
            }
            return cls(name=data["name"], test=Expression.from_data(data["test"]), rewrite=rewrite)
        except (KeyError, TypeError, AttributeError) as error:
            raise VariableError(f"this is no stored constraint: {shorten(data)}") from error
