"""Expressions over variables as data: conditions, constraints, composites, bindings."""

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dspex.arguments import checks_names
from dspex.error_text import shorten
from dspex.errors import VariableError

_OPERATIONS: dict[str, Callable[..., Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "in": lambda value, options: value in options,
    "and": lambda *parts: all(parts),
    "or": lambda *parts: any(parts),
    "not": operator.not_,
    "min": min,
    "max": max,
    "round": round,
    "int": int,
    "if": lambda test, then, otherwise: then if test else otherwise,
    "lookup": lambda value, table, default: table.get(str(value), default),
    "join": lambda separator, *parts: separator.join(str(part) for part in parts),
}
_OF_NUMBERS = frozenset({"-", "*", "/", "//", "%"})  # texts would be repeated or formatted
_LARGEST, _LONGEST = 2**1023, 100_000


@dataclass(frozen=True, slots=True, eq=True)
class Expression:
    """An operation on variables, constants and other expressions: `var("k") * 2 <= 16`.

    Arithmetic and ordering use operators. Equality is a method (`var("model").equals("a")`),
    because `==` compares two expressions as data.
    """

    op: str
    args: tuple[Any, ...]

    def __post_init__(self) -> None:
        """Check the operation and the argument of `var`."""
        if self.op == "var":
            if len(self.args) != 1 or not isinstance(self.args[0], str):
                raise VariableError(
                    f"var takes the name of a variable, such as var('k'), not {shorten(self.args)}"
                )
        elif self.op not in _OPERATIONS:
            raise VariableError(
                f"unknown operation {self.op!r}; operations are: var, {', '.join(_OPERATIONS)}"
            )

    def __call__(self, values: Mapping[str, Any]) -> Any:
        """Compute the value.

        Raises:
            VariableError: a variable has no value, or the operation does not fit the values.
        """
        if self.op == "var":
            if self.args[0] not in values:
                raise VariableError(
                    f"{self} needs the variable {self.args[0]!r}, which has no value here"
                )
            return values[self.args[0]]
        parts = [part(values) if isinstance(part, Expression) else part for part in self.args]
        if self.op in _OF_NUMBERS and not all(isinstance(part, int | float) for part in parts):
            raise VariableError(f"{self} is of numbers, not of {shorten(parts)}")
        try:
            result = _OPERATIONS[self.op](*parts)
        except (TypeError, ValueError, ArithmeticError, AttributeError, LookupError) as error:
            raise VariableError(
                f"{self} cannot be computed from {shorten(parts)}: {error}"
            ) from error
        is_long = isinstance(result, str | list) and len(result) > _LONGEST
        if is_long or (isinstance(result, int) and abs(result) > _LARGEST):
            raise VariableError(
                f"{self} is too large: a number is at most 2^1023, a text {_LONGEST} characters"
            )
        return result

    def variables(self) -> Iterator[str]:
        """Yield the names of the variables that it reads."""
        if self.op == "var":
            yield self.args[0]
        for part in self.args:
            if isinstance(part, Expression):
                yield from part.variables()

    def parts(self) -> Iterator["Expression"]:
        """Yield the operands of `&`, recursively, or the expression itself."""
        if self.op != "and":
            yield self
            return
        for part in self.args:
            if isinstance(part, Expression):
                yield from part.parts()

    def to_data(self) -> list[Any]:
        """Return the expression as JSON: the operation and its arguments.

        Constants are wrapped as `{"value": x}`.
        """
        if self.op == "var":
            return ["var", self.args[0]]
        return [
            self.op,
            *(
                part.to_data() if isinstance(part, Expression) else {"value": part}
                for part in self.args
            ),
        ]

    @classmethod
    def from_data(cls, data: Sequence[Any]) -> "Expression":
        """Read what `to_data` wrote.

        Raises:
            VariableError: `data` was not written by it.
        """
        if not isinstance(data, list | tuple) or not data or not isinstance(data[0], str):
            raise VariableError(f"this is not an expression: {shorten(data)}")
        if data[0] == "var":
            return cls("var", tuple(data[1:]))
        parts: list[Any] = []
        for part in data[1:]:
            if isinstance(part, Mapping) and "value" not in part:
                raise VariableError(
                    f"a constant in an expression is written {{'value': x}}, not {shorten(part)}"
                )
            parts.append(part["value"] if isinstance(part, Mapping) else cls.from_data(part))
        return cls(data[0], tuple(parts))

    def equals(self, value: object) -> "Expression":
        """Return the test for equality."""
        return Expression("==", (self, value))

    def differs(self, value: object) -> "Expression":
        """Return the test for inequality."""
        return Expression("!=", (self, value))

    def is_in(self, options: Sequence[object]) -> "Expression":
        """Return the test for being one of `options`."""
        return Expression("in", (self, list(options)))

    def lookup(self, table: Mapping[str, object], default: object = None) -> "Expression":
        """Return the entry of `table` for the value (as text)."""
        return Expression("lookup", (self, dict(table), default))

    def round(self, digits: int | None = None) -> "Expression":
        """Return the rounded value."""
        return Expression("round", (self,) if digits is None else (self, digits))

    def __add__(self, value: object) -> "Expression":
        return Expression("+", (self, value))

    def __radd__(self, value: object) -> "Expression":
        return Expression("+", (value, self))

    def __sub__(self, value: object) -> "Expression":
        return Expression("-", (self, value))

    def __rsub__(self, value: object) -> "Expression":
        return Expression("-", (value, self))

    def __mul__(self, value: object) -> "Expression":
        return Expression("*", (self, value))

    def __rmul__(self, value: object) -> "Expression":
        return Expression("*", (value, self))

    def __truediv__(self, value: object) -> "Expression":
        return Expression("/", (self, value))

    def __rtruediv__(self, value: object) -> "Expression":
        return Expression("/", (value, self))

    def __floordiv__(self, value: object) -> "Expression":
        return Expression("//", (self, value))

    def __rfloordiv__(self, value: object) -> "Expression":
        return Expression("//", (value, self))

    def __mod__(self, value: object) -> "Expression":
        return Expression("%", (self, value))

    def __rmod__(self, value: object) -> "Expression":
        return Expression("%", (value, self))

    def __neg__(self) -> "Expression":
        return Expression("-", (0, self))

    def __lt__(self, value: object) -> "Expression":
        return Expression("<", (self, value))

    def __le__(self, value: object) -> "Expression":
        return Expression("<=", (self, value))

    def __gt__(self, value: object) -> "Expression":
        return Expression(">", (self, value))

    def __ge__(self, value: object) -> "Expression":
        return Expression(">=", (self, value))

    def __and__(self, value: object) -> "Expression":
        return Expression("and", (self, value))

    def __or__(self, value: object) -> "Expression":
        return Expression("or", (self, value))

    def __invert__(self) -> "Expression":
        return Expression("not", (self,))

    def __bool__(self) -> bool:
        raise VariableError(
            f"{self} has no truth value before it is computed; combine tests with &, | and ~"
        )

    def __hash__(self) -> int:
        return hash(str(self.to_data()))

    def __str__(self) -> str:
        if self.op == "var":
            return str(self.args[0])
        parts = [str(part) if isinstance(part, Expression) else repr(part) for part in self.args]
        if len(parts) == 2 and not self.op.isalpha():
            return f"({parts[0]} {self.op} {parts[1]})"
        return f"{self.op}({', '.join(parts)})"


@checks_names
def var(name: str) -> Expression:
    """Return the expression for the value of a variable."""
    return Expression("var", (name,))


def expression_problem(value: object, what: str) -> str:
    """Return what is wrong with `value` as an expression, and how to write one, or ""."""
    if isinstance(value, Expression):
        return ""
    if isinstance(value, bool):
        return (
            f"{what} is {value}, not an expression: == and != compare two expressions as data; "
            "write var('a').equals('x') or var('a').differs('x')"
        )
    if callable(value):
        return f"{what} is a function; it has to be data: write it with var, such as var('a') <= 3"
    return (
        f"{what} is {shorten(value)}, not an expression; write one with var, such as var('a') <= 3"
    )
