"""What has to hold between variables."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dspex.errors import VariableError
from dspex.language.variables.expression import Expression


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """A test on an assignment. Where it fails, the assignment is rewritten, or refused where nothing says how.

    Args:
        name: what errors call it.
        test: has to be true. A test that reads an inactive variable holds.
        rewrite: by variable name, the value to put there where the test fails.
    """

    name: str
    test: Expression
    rewrite: Mapping[str, Expression | Any] = field(default_factory=dict)

    def apply(self, values: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the values, rewritten where needed; None where they are refused."""
        if not set(self.test.variables()) <= set(values) or self.test(values):
            return dict(values)
        if not self.rewrite:
            return None
        made = dict(values)
        for name, value in self.rewrite.items():
            made[name] = value(values) if isinstance(value, Expression) else value
        return made if self.test(made) else None

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
        except (KeyError, TypeError) as error:
            raise VariableError(f"this is no stored constraint: {data!r}") from error
