"""Functions that declare variables: `Float(0, 1.5)`, `Choice("chat", "json")`.

Their arguments are those of `Variable`, as far as they apply to the kind.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from dspex.arguments import checks_names
from dspex.language.variables.expression import Expression
from dspex.language.variables.variable import Variable


@checks_names
def Float(  # noqa: N802  # reads as a type
    low: float,
    high: float,
    *,
    default: float | None = None,
    log: bool = False,
    precision: int | None = None,
    prior: tuple[float, float] | None = None,
    name: str = "",
    desc: str = "",
    paths: tuple[str, ...] = (),
    when: Expression | None = None,
    bindings: Mapping[str, Expression] | None = None,
) -> Variable:
    """Declare a number between two inclusive limits; the default is `low`.

    With `log=True` it is searched on a logarithmic scale; `precision` decimals are kept. `prior` is
    the mean and standard deviation of random samples. The other arguments are those of `Variable`.

    Raises:
        VariableError: no number satisfies it.
    """
    return Variable(
        kind="float",
        low=low,
        high=high,
        default=low if default is None else default,
        log=log,
        precision=precision,
        prior=prior,
        name=name,
        desc=desc,
        paths=paths,
        when=when,
        bindings=bindings or {},
    )


@checks_names
def Integer(  # noqa: N802
    low: int,
    high: int,
    *,
    default: int | None = None,
    step: int = 1,
    log: bool = False,
    prior: tuple[float, float] | None = None,
    name: str = "",
    desc: str = "",
    paths: tuple[str, ...] = (),
    when: Expression | None = None,
    bindings: Mapping[str, Expression] | None = None,
) -> Variable:
    """Declare an integer between two inclusive limits; the default is `low`.

    With `step=4` the values are `low`, `low + 4` and so on; `log` and `prior` are as for `Float`.
    The other arguments are those of `Variable`.

    Raises:
        VariableError: no number satisfies it.
    """
    return Variable(
        kind="integer",
        low=low,
        high=high,
        default=low if default is None else default,
        step=step,
        log=log,
        prior=prior,
        name=name,
        desc=desc,
        paths=paths,
        when=when,
        bindings=bindings or {},
    )


@checks_names
def Boolean(  # noqa: N802
    *,
    default: bool = False,
    name: str = "",
    desc: str = "",
    paths: tuple[str, ...] = (),
    when: Expression | None = None,
    bindings: Mapping[str, Expression] | None = None,
) -> Variable:
    """Declare a switch between true and false."""
    return Variable(
        kind="boolean",
        default=default,
        name=name,
        desc=desc,
        paths=paths,
        when=when,
        bindings=bindings or {},
    )


class _First:
    """Stands for the first option of a choice."""

    def __repr__(self) -> str:
        return "FIRST"


FIRST: Any = _First()


@checks_names
def Choice(  # noqa: N802
    *options: Any,
    default: Any = FIRST,
    weights: tuple[float, ...] = (),
    name: str = "",
    desc: str = "",
    paths: tuple[str, ...] = (),
    when: Expression | None = None,
    bindings: Mapping[str, Expression] | None = None,
) -> Variable:
    """Declare a choice between JSON values; the default is the first.

    `weights` are the relative frequencies of the options in random samples. The other arguments are
    those of `Variable`.

    Raises:
        VariableError: there are no options, or two are equal.
    """
    first = options[0] if options else None
    return Variable(
        kind="choice",
        options=options,
        default=first if default is FIRST else default,
        weights=weights,
        name=name,
        desc=desc,
        paths=paths,
        when=when,
        bindings=bindings or {},
    )


@checks_names
def Text(  # noqa: N802
    default: str | None = None,
    *,
    options: Sequence[str] = (),
    weights: tuple[float, ...] = (),
    name: str = "",
    desc: str = "",
    paths: tuple[str, ...] = (),
    when: Expression | None = None,
    bindings: Mapping[str, Expression] | None = None,
) -> Variable:
    """Declare a text such as instructions; `options` are candidates, `weights` as for `Choice`."""
    return Variable(
        kind="text",
        default=default,
        options=tuple(options),
        weights=weights,
        name=name,
        desc=desc,
        paths=paths,
        when=when,
        bindings=bindings or {},
    )


@checks_names
def Examples(  # noqa: N802
    *,
    default: Sequence[Mapping[str, Any]] | None = None,
    options: Sequence[Sequence[Mapping[str, Any]]] = (),
    name: str = "",
    desc: str = "",
    paths: tuple[str, ...] = (),
    when: Expression | None = None,
    bindings: Mapping[str, Expression] | None = None,
) -> Variable:
    """Declare demonstrations: a list of examples; `options` are candidate lists."""
    return Variable(
        kind="examples",
        default=default,
        options=tuple(options),
        name=name,
        desc=desc,
        paths=paths,
        when=when,
        bindings=bindings or {},
    )


@checks_names
def Composite(  # noqa: N802
    compute: Expression,
    *,
    name: str = "",
    desc: str = "",
    paths: tuple[str, ...] = (),
    when: Expression | None = None,
    bindings: Mapping[str, Expression] | None = None,
) -> Variable:
    """Declare a value that is computed from other variables: `Composite(var("k") * 64)`."""
    return Variable(
        kind="composite",
        compute=compute,
        name=name,
        desc=desc,
        paths=paths,
        when=when,
        bindings=bindings or {},
    )
