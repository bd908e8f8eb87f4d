"""Checks conditions: comparing with a value that a variable never has is an error.

Such a condition would be false without a word.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from dspex.error_text import suggest
from dspex.errors import VariableError
from dspex.language.variables.constraint import Constraint
from dspex.language.variables.expression import Expression
from dspex.language.variables.variable import Variable

_CLOSED = frozenset({"choice", "module", "boolean"})  # kinds whose values are all known


def check_conditions(variables: Mapping[str, Variable], constraints: Iterable[Constraint]) -> None:
    """Check that conditions and constraints compare variables with values that they can have.

    Raises:
        VariableError: one does not; the message names the variable, the value and the options.
    """
    for name, variable in variables.items():
        if variable.when is not None:
            _check(variable.when, f"the condition of {name!r}", variables)
    for constraint in constraints:
        _check(constraint.test, f"the test of the constraint {constraint.name!r}", variables)


def _check(expression: Expression, where: str, variables: Mapping[str, Variable]) -> None:
    for name, value in _comparisons(expression):
        variable = variables.get(name)
        if variable is None or variable.kind not in _CLOSED or value in _values(variable):
            continue
        texts = [option for option in variable.options if isinstance(option, str)]
        hint = suggest(value, texts) if isinstance(value, str) else ""
        values = ", ".join(map(repr, _values(variable)))
        raise VariableError(
            f"{where} compares {name!r} with {value!r}, which it never is.{hint} Its values are: "
            f"{values}"
        )


def _comparisons(expression: Expression) -> Iterator[tuple[str, Any]]:
    """Yield the variables that are compared with constants, and the constants."""
    if expression.op in {"==", "!=", "in"} and len(expression.args) == 2:
        names = [
            part.args[0]
            for part in expression.args
            if isinstance(part, Expression) and part.op == "var"
        ]
        constants = [part for part in expression.args if not isinstance(part, Expression)]
        if len(names) == len(constants) == 1:
            options = constants[0] if expression.op == "in" else constants
            yield from (
                (names[0], option) for option in options if isinstance(options, list | tuple)
            )
    for part in expression.args:
        if isinstance(part, Expression):
            yield from _comparisons(part)


def _values(variable: Variable) -> tuple[Any, ...]:
    return (True, False) if variable.kind == "boolean" else variable.options
