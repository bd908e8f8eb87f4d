"""One parameter of a program that may take other values."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from statistics import NormalDist
from typing import Any, Literal, TypeGuard, get_args

from dspex.arguments import checks_names
from dspex.error_text import shorten
from dspex.errors import VariableError
from dspex.language.variables.expression import Expression, expression_problem

VariableKind = Literal[
    "float", "integer", "boolean", "choice", "module", "text", "examples", "composite"
]
Level = Literal["parametric", "structural", "architectural"]
KINDS: tuple[str, ...] = get_args(VariableKind)
_NUMBERS = frozenset({"float", "integer"})
_CHOICES = frozenset({"choice", "module"})
# the kinds that each optional attribute applies to
_HAVE: dict[str, frozenset[str]] = {
    **dict.fromkeys(("low", "high", "log"), _NUMBERS),
    "step": frozenset({"integer"}),
    "precision": frozenset({"float"}),
    "options": _CHOICES | {"text", "examples"},
    "weights": _CHOICES | {"text"},
    "compute": frozenset({"composite"}),
}
_TEXTS = ("name", "desc")
_LISTS = ("paths", "options", "weights")


@checks_names
@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """A named value of one kind, bound to one or more paths of a program.

    A path names a module as in dspy (`answer`, `steps[0]`, `d['k']`, `self` for the root) and ends
    in a slot (`instructions`, `demos`, `temperature`, `model`, `adapter`, `fields.<f>.desc`,
    `config.<k>`, `self`). A variable declared in place is named by its path.

    Args:
        name: unique within its space.
        kind: the kind of its values.
        paths: the paths that receive its value.
        default: the value if none is assigned; None means no default, unless None is an option.
        desc: its meaning, for people and for proposing models.
        low: the lowest number.
        high: the highest number.
        step: of an integer.
        log: whether a number is searched on a logarithmic scale.
        precision: decimals that a float is rounded to.
        options: the values of a choice, or candidate texts.
        weights: the relative frequency of each option in random samples.
        prior: (mean, standard deviation) of a number in random samples.
        when: the variable is active only if this is true.
        compute: the expression of a composite.
        bindings: for some of `paths`, an expression from the variable's value to the value at that
            path.
    """

    name: str = ""
    kind: VariableKind
    paths: tuple[str, ...] = ()
    default: Any = None
    desc: str = ""
    low: float | None = None
    high: float | None = None
    step: int = 1
    log: bool = False
    precision: int | None = None
    options: tuple[Any, ...] = ()
    weights: tuple[float, ...] = ()
    prior: tuple[float, float] | None = None
    when: Expression | None = None
    compute: Expression | None = None
    bindings: Mapping[str, Expression] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the declaration.

        Raises:
            VariableError: the message names the part and the fix.
        """
        if problem := _problem(self):
            raise VariableError(f"variable {self.name or '(unnamed)'!r}: {problem}")

    @property
    def level(self) -> Level:
        """The level of change: a value, the contents of one module, or the choice of modules."""
        if self.kind == "module":
            return "architectural"
        return "structural" if self.kind in {"text", "examples", "composite"} else "parametric"

    @property
    def is_searchable(self) -> bool:
        """Whether values can be sampled from the declaration alone."""
        return self.kind in {"float", "integer", "boolean", "choice", "module"} or bool(
            self.options
        )

    @property
    def has_default(self) -> bool:
        """Whether there is a default; None counts if it is an option."""
        return self.default is not None or (self.kind in _CHOICES and None in self.options)

    def named(self, name: str, *paths: str) -> "Variable":
        """Return the variable with this name and these paths, unless it already has its own."""
        return replace(self, name=self.name or name, paths=self.paths or paths)

    def check(self, value: object) -> None:
        """Check that the variable takes `value`.

        Raises:
            VariableError: it does not; the message says what it takes.
        """
        if not _fits(self, value):
            raise VariableError(
                f"variable {self.name!r} takes {self.expected()}, not {shorten(value)}"
            )

    def normalize(self, value: Any) -> Any:
        """Return the value in its normal form.

        A float is rounded to its precision; 2.0 is 2 for an integer.

        Raises:
            VariableError: the variable does not take the value.
        """
        self.check(value)
        if self.kind == "integer":
            return int(value)
        if self.kind == "float" and self.precision is not None:
            return min(self.high or 0.0, max(self.low or 0.0, round(value, self.precision)))
        return value

    def sample_values(self, path: str) -> Iterator[Any]:
        """Yield sample values for `path`: options, limits, one between them, the default."""
        values: list[Any] = [*self.options]
        if self.kind in _NUMBERS:
            low, high = self.low or 0.0, self.high or 0.0
            values += [low, high, *([low + (high - low) / math.e] if self.kind == "float" else [])]
        if self.has_default and self.kind != "composite":
            values.append(self.default)
        binding = self.bindings.get(path)
        for value in values:
            yield (
                self.normalize(value)
                if binding is None
                else binding({self.name: self.normalize(value)})
            )

    def expected(self) -> str:
        """Return a description of the values that it takes."""
        if self.kind in _NUMBERS:
            step = f" in steps of {self.step}" if self.kind == "integer" and self.step != 1 else ""
            return (
                f"{'an integer' if self.kind == 'integer' else 'a number'} from {self.low} to "
                f"{self.high}{step}"
            )
        words = {
            "boolean": "true or false",
            "text": "text",
            "examples": "a list of examples (dicts)",
            "composite": "no assigned value, because it is computed",
        }
        return words.get(self.kind) or f"one of {', '.join(map(repr, self.options))}"

    def to_dict(self) -> dict[str, Any]:
        """Return the variable as JSON-ready data without attributes at their default."""
        data: dict[str, Any] = {
            "name": self.name,
            "kind": self.kind,
            "paths": list(self.paths),
            "default": self.default,
        }
        for name, usual in _USUAL.items():
            if (value := getattr(self, name)) != usual:
                data[name] = list(value) if isinstance(value, tuple) else value
        for name in ("when", "compute"):
            expression = getattr(self, name)
            if expression is not None:
                data[name] = expression.to_data()
        if self.bindings:
            data["bindings"] = {
                path: expression.to_data() for path, expression in self.bindings.items()
            }
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Variable":
        """Read what `to_dict` wrote.

        Raises:
            VariableError: `data` was not written by it.
        """
        if not isinstance(data, Mapping):
            raise VariableError(f"a stored variable is an object, not {shorten(data)}")
        if data.get("kind") not in KINDS:
            raise VariableError(
                f"unknown kind of variable {data.get('kind')!r}; kinds are: {', '.join(KINDS)}"
            )
        values = dict(data)
        for name in ("paths", "options", "weights", "prior"):
            if isinstance(values.get(name), list):
                values[name] = tuple(values[name])
        for name in ("when", "compute"):
            if values.get(name) is not None:
                values[name] = Expression.from_data(values[name])
        bindings = values.get("bindings") or {}
        if isinstance(bindings, Mapping):
            values["bindings"] = {
                path: Expression.from_data(binding) for path, binding in bindings.items()
            }
        try:
            return cls(**values)
        except TypeError as error:
            raise VariableError(
                f"this is not a stored variable ({error}): {shorten(data)}"
            ) from error


_PLAIN = frozenset(
    {"desc", "low", "high", "step", "log", "precision", "options", "weights", "prior"}
)
_USUAL: dict[str, Any] = {
    part.name: part.default for part in fields(Variable) if part.name in _PLAIN
}


def _problem(variable: Variable) -> str:
    """Return the problem of a declaration and its fix, or an empty string."""
    if (
        problem := _shape_problem(variable)
        or _expression_problem(variable)
        or _stray_problem(variable)
    ):
        return problem
    if variable.kind in _NUMBERS:
        problem = _number_problem(variable) or _prior_problem(variable)
    elif variable.prior is not None:
        problem = f"only a number has a prior; give a {variable.kind} `weights` or nothing"
    elif variable.kind in _CHOICES:
        problem = _choice_problem(variable)
    elif variable.kind == "composite" and variable.compute is None:
        return "a composite needs `compute`, an expression over other variables"
    elif variable.kind == "text":
        is_text = all(isinstance(option, str) for option in variable.options)
        problem = (
            _weights_problem(variable)
            if is_text
            else f"the options of a text are texts, not {shorten(variable.options)}"
        )
    if (
        not problem
        and variable.has_default
        and variable.kind != "composite"
        and not _fits(variable, variable.default)
    ):
        return f"the default {variable.default!r} is not {variable.expected()}"
    return problem


def _fits(variable: Variable, value: object) -> bool:
    """Return whether the variable takes the value."""
    if variable.kind in _NUMBERS:
        return _fits_number(variable, value)
    if variable.kind == "boolean":
        return isinstance(value, bool)
    if variable.kind in _CHOICES:
        return any(type(value) is type(option) and value == option for option in variable.options)
    if variable.kind == "text":
        return isinstance(value, str)
    if variable.kind == "examples":
        return (
            isinstance(value, Sequence)
            and not isinstance(value, str)
            and all(isinstance(r, Mapping) for r in value)
        )
    return False


def _fits_number(variable: Variable, value: object) -> bool:
    if not _is_number(value):
        return False
    low, high = variable.low or 0.0, variable.high or 0.0
    if not low <= value <= high:
        return False
    return variable.kind == "float" or (value == int(value) and (value - low) % variable.step == 0)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _shape_problem(variable: Variable) -> str:
    """Return the first part of a declaration that has the wrong type."""
    for name in _TEXTS:
        if not isinstance(value := getattr(variable, name), str):
            return f"`{name}` is text, not {shorten(value)}"
    for name in _LISTS:
        if not isinstance(value := getattr(variable, name), tuple):
            return f"`{name}` is a tuple, not {shorten(value)}"
    if not all(isinstance(path, str) for path in variable.paths):
        return f"a path is text such as 'self.temperature', not {shorten(variable.paths)}"
    if not _is_json(variable.options):
        return (
            f"an option is a JSON value, not {shorten(variable.options)}. For modules use "
            "OneOf(Predict(QA))"
        )
    for name, kind, words in (("step", int, "a whole number"), ("log", bool, "true or false")):
        if type(value := getattr(variable, name)) is not kind:
            return f"`{name}` is {words}, not {shorten(value)}"
    digits = variable.precision
    if digits is not None and (
        isinstance(digits, bool) or not isinstance(digits, int) or not 0 <= digits <= 300
    ):
        return f"`precision` is a number of decimals such as 2, not {shorten(digits)}"
    return ""


def _is_json(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_json(item) for item in value)
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _is_json(item) for key, item in value.items())
    return value is None or isinstance(value, str | bool) or _is_number(value)


def _expression_problem(variable: Variable) -> str:
    for name in ("when", "compute"):
        expression = getattr(variable, name)
        if expression is not None and (problem := expression_problem(expression, f"`{name}`")):
            return problem
    bindings: object = variable.bindings
    if not isinstance(bindings, Mapping):
        return f"`bindings` gives an expression for a path, not {shorten(bindings)}"
    for path, expression in bindings.items():
        if problem := expression_problem(expression, f"the binding of {path!r}"):
            return problem
    return ""


def _stray_problem(variable: Variable) -> str:
    """Return an attribute that does not apply to the kind of the variable."""
    for name, kinds in _HAVE.items():
        if variable.kind not in kinds and getattr(variable, name) != _USUAL.get(name):
            return (
                f"`{name}` does not apply to the kind {variable.kind}; it belongs to: "
                f"{', '.join(sorted(kinds))}"
            )
    return ""


def _number_problem(variable: Variable) -> str:
    low, high = variable.low, variable.high
    if not _is_number(low) or not _is_number(high):
        return f"a number needs two finite limits, such as Float(0, 1), not {low!r} and {high!r}"
    if low > high:
        return f"the range from {low} to {high} is empty; swap its ends"
    if variable.kind == "integer" and (low != int(low) or high != int(high)):
        return (
            f"the limits of an integer are whole numbers, not {low} and {high}; round them, or "
            "declare a Float"
        )
    if variable.log and low <= 0:
        return f"a logarithmic range begins above 0, not at {low}"
    if variable.step < 1:
        return f"the step is at least 1, not {variable.step}"
    return ""


def _prior_problem(variable: Variable) -> str:
    prior, low, high = variable.prior, variable.low or 0.0, variable.high or 0.0
    if prior is None:
        return ""
    if (
        not isinstance(prior, tuple)
        or len(prior) != 2
        or not all(_is_number(part) for part in prior)
    ):
        return f"a prior is (mean, standard deviation), such as (0.5, 0.2), not {shorten(prior)}"
    if prior[1] <= 0:
        return (
            f"the standard deviation of a prior is above 0, not {prior[1]}; for one value alone "
            "declare no variable"
        )
    normal = NormalDist(*prior)
    if low < high and normal.cdf(high) - normal.cdf(low) < 1e-9:
        return (
            f"the prior {prior} is nowhere near the range from {low} to {high}; move its mean, or "
            "widen it"
        )
    return ""


def _choice_problem(variable: Variable) -> str:
    if not variable.options:
        return "a choice needs at least one option"
    if len({repr(option) for option in variable.options}) != len(variable.options):
        return f"two options are the same: {variable.options!r}"
    return _weights_problem(variable)


def _weights_problem(variable: Variable) -> str:
    weights = variable.weights
    if weights and (
        len(weights) != len(variable.options) or not all(_is_number(w) and w >= 0 for w in weights)
    ):
        return (
            f"{len(variable.options)} options need as many weights of at least 0, not {weights!r}"
        )
    if weights and not sum(weights):
        return "at least one weight has to be above 0"
    return ""
