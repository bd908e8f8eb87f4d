"""Constraints between variables."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dspex.arguments import checks_names
from dspex.error_text import shorten
from dspex.errors import VariableError
from dspex.language.variables.expression import Expression, expression_problem


@checks_names
@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """A test on an assignment; one that fails it is rewritten, or refused.

    A rewritten assignment is tested again, by this constraint and by all others.

    Args:
        name: the name in error messages.
        test: an expression that must be true. A test that reads an inactive variable holds.
        rewrite: the new value of each variable to change if the test fails.
    """

    name: str
    test: Expression
    rewrite: Mapping[str, Expression | Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the name, the test and the rewrite.

        Raises:
            VariableError: a part has the wrong type; the message shows how to write it.
        """
        if not isinstance(self.name, str):
            raise VariableError(f"the name of a constraint is text, not {self.name!r}")
        what = f"the test of the constraint {self.name!r}"
        if problem := expression_problem(self.test, what):
            raise VariableError(problem, constraint=self.name)
        if not isinstance(self.rewrite, Mapping) or not all(
            isinstance(name, str) for name in self.rewrite
        ):
            problem = (
                "a rewrite gives values by variable name, such as {'a': 1}, not "
                f"{shorten(self.rewrite)}"
            )
            raise VariableError(f"the constraint {self.name!r}: {problem}", constraint=self.name)
        for name, value in self.rewrite.items():
            if callable(value) and (
                problem := expression_problem(value, f"the rewrite of {name!r} in {self.name!r}")
            ):
                raise VariableError(problem, constraint=self.name)

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Return whether the test is true or reads a variable without a value."""
        return not set(self.test.variables()) <= set(values) or bool(self.test(values))

    def reads(self) -> set[str]:
        """Return the names of the variables that its test and its rewrites read or set."""
        rewrite_names = {
            name
            for value in self.rewrite.values()
            if isinstance(value, Expression)
            for name in value.variables()
        }
        return {*self.test.variables(), *self.rewrite, *rewrite_names}

    def rewritten(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the rewritten values by variable name."""
        return {
            name: value(values) if isinstance(value, Expression) else value
            for name, value in self.rewrite.items()
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the constraint as JSON-ready data."""
        rewrite = {
            name: {"expression": value.to_data()}
            if isinstance(value, Expression)
            else {"value": value}
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
                name: Expression.from_data(value["expression"])
                if "expression" in value
                else value["value"]
                for name, value in data.get("rewrite", {}).items()
            }
            return cls(name=data["name"], test=Expression.from_data(data["test"]), rewrite=rewrite)
        except (KeyError, TypeError, AttributeError) as error:
            raise VariableError(f"this is not a stored constraint: {shorten(data)}") from error
