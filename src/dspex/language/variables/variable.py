"""One parameter of a program that may take other values."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from dspex.errors import VariableError, shorten
from dspex.language.variables.expression import Expression

VariableKind = Literal["float", "integer", "boolean", "choice", "module", "text", "examples", "composite"]
Level = Literal["parametric", "structural", "architectural"]
KINDS: tuple[str, ...] = get_args(VariableKind)
_NUMBERS = {"float", "integer"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """A named value of one kind, bound to one or more places of a program.

    A path leads to a module as in dspy (`answer`, `steps[0]`, `d['k']`, `self` for the root) and ends in a slot
    (`instructions`, `demos`, `temperature`, `model`, `adapter`, `fields.<f>.desc`, `config.<k>`, `self`). A variable
    that was declared in no other way is named by its path.

    Args:
        name: unique within its space.
        kind: which values it takes.
        paths: the places that take its value.
        default: the value where none is assigned.
        desc: what it means, for people and for proposing models.
        low: the least number.
        high: the greatest number.
        step: of an integer.
        log: whether a number is searched on a logarithmic scale.
        precision: decimals that a float is rounded to.
        options: what a choice chooses from, or texts that are worth trying.
        weights: how likely each option is in random samples.
        prior: (mean, standard deviation) of a number in random samples.
        when: active only where this is true.
        compute: what a composite is.
        bindings: for single paths, what of the value they take.
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
        """Refuse a declaration that no value satisfies."""
        if problem := _problem(self):
            raise VariableError(f"variable {self.name or '(unnamed)'!r}: {problem}")

    @property
    def level(self) -> Level:
        """What kind of change it makes: a value, the shape of one module, or which modules there are."""
        if self.kind == "module":
            return "architectural"
        return "structural" if self.kind in {"text", "examples", "composite"} else "parametric"

    @property
    def is_searchable(self) -> bool:
        """Whether values can be drawn from its declaration alone."""
        return self.kind in {"float", "integer", "boolean", "choice", "module"} or bool(self.options)

    def named(self, name: str, *paths: str) -> "Variable":
        """Return the variable under a name, unless it has one, and bound to `paths`, unless it has some."""
        return replace(self, name=self.name or name, paths=self.paths or paths)

    def check(self, value: object) -> None:
        """Refuse a value that is not of this kind.

        Raises:
            VariableError: naming the variable and what it takes.
        """
        if not _fits(self, value):
            raise VariableError(f"variable {self.name!r} takes {self.expected()}, not {shorten(value)}")

    def expected(self) -> str:
        """Return in words what it takes."""
        if self.kind in _NUMBERS:
            step = f" in steps of {self.step}" if self.kind == "integer" and self.step != 1 else ""
            return f"{'an integer' if self.kind == 'integer' else 'a number'} from {self.low} to {self.high}{step}"
        words = {
            "boolean": "true or false",
            "text": "text",
            "examples": "a list of examples (dicts)",
            "composite": "no value of its own: it is computed",
        }
        return words.get(self.kind) or f"one of {', '.join(map(repr, self.options))}"

    def to_dict(self) -> dict[str, Any]:
        """Return the variable as JSON-ready data; what has its usual value is left out."""
        data: dict[str, Any] = {
            "name": self.name,
            "kind": self.kind,
            "paths": list(self.paths),
            "default": self.default,
        }
        for name in ("desc", "low", "high", "step", "log", "precision", "options", "weights", "prior"):
            value = getattr(self, name)
            if value != _USUAL[name]:
                data[name] = list(value) if isinstance(value, tuple) else value
        for name in ("when", "compute"):
            expression = getattr(self, name)
            if expression is not None:
                data[name] = expression.to_data()
        if self.bindings:
            data["bindings"] = {path: expression.to_data() for path, expression in self.bindings.items()}
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Variable":
        """Read what `to_dict` wrote.

        Raises:
            VariableError: `data` was not written by it.
        """
        if data.get("kind") not in KINDS:
            raise VariableError(f"there is no kind of variable {data.get('kind')!r}; kinds are: {', '.join(KINDS)}")
        values = dict(data)
        for name in ("paths", "options", "weights", "prior"):
            if values.get(name) is not None:
                values[name] = tuple(values[name])
        for name in ("when", "compute"):
            if values.get(name) is not None:
                values[name] = Expression.from_data(values[name])
        values["bindings"] = {
            path: Expression.from_data(found) for path, found in (values.get("bindings") or {}).items()
        }
        try:
            return cls(**values)
        except TypeError as error:
            raise VariableError(f"this is no stored variable ({error}): {shorten(data)}") from error


_USUAL: dict[str, Any] = {
    "desc": "",
    "low": None,
    "high": None,
    "step": 1,
    "log": False,
    "precision": None,
    "options": (),
    "weights": (),
    "prior": None,
}


def _problem(variable: Variable) -> str:
    """Return what is wrong with a declaration, or nothing."""
    if variable.kind in _NUMBERS:
        return _number_problem(variable)
    if variable.kind in {"choice", "module"}:
        return _choice_problem(variable)
    if variable.kind == "composite" and variable.compute is None:
        return "a composite needs `compute`, an expression over other variables"
    if variable.default is not None and not _fits(variable, variable.default):
        return f"the default {variable.default!r} is not {variable.expected()}"
    return ""


def _number_problem(variable: Variable) -> str:
    low, high = variable.low, variable.high
    if low is None or high is None or not math.isfinite(low) or not math.isfinite(high):
        return "a number needs two finite limits, such as Float(0, 1)"
    if low > high:
        return f"the range from {low} to {high} is empty; swap its ends"
    if variable.log and low <= 0:
        return f"a logarithmic range begins above 0, not at {low}"
    if variable.step < 1:
        return f"the step is at least 1, not {variable.step}"
    if variable.default is not None and not _fits(variable, variable.default):
        return f"the default {variable.default!r} is not {variable.expected()}"
    return ""


def _choice_problem(variable: Variable) -> str:
    if not variable.options:
        return "a choice needs at least one option"
    if len({repr(option) for option in variable.options}) != len(variable.options):
        return f"two options are the same: {variable.options!r}"
    if variable.weights and (len(variable.weights) != len(variable.options) or min(variable.weights) < 0):
        return f"{len(variable.options)} options need as many weights of at least 0, not {variable.weights!r}"
    if variable.weights and not sum(variable.weights):
        return "at least one weight has to be above 0"
    if variable.default is not None and not _fits(variable, variable.default):
        return f"the default {variable.default!r} is not {variable.expected()}"
    return ""


def _fits(variable: Variable, value: object) -> bool:
    if variable.kind in _NUMBERS:
        return _fits_number(variable, value)
    if variable.kind == "boolean":
        return isinstance(value, bool)
    if variable.kind in {"choice", "module"}:
        return any(type(value) is type(option) and value == option for option in variable.options)
    if variable.kind == "text":
        return isinstance(value, str)
    if variable.kind == "examples":
        return isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(r, Mapping) for r in value)
    return False


def _fits_number(variable: Variable, value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    low, high = variable.low or 0.0, variable.high or 0.0
    if not low <= value <= high:
        return False
    return variable.kind == "float" or (value == int(value) and (value - low) % variable.step == 0)
