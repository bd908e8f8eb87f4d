"""Random and quasi-random assignments of a space."""

import math
import random
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import accumulate
from statistics import NormalDist
from typing import Any, Literal

from dspex.error_text import shorten
from dspex.errors import VariableError
from dspex.language.variables.space import Space
from dspex.language.variables.variable import Variable

TRIES = 200


def samples(
    space: Space, *, seed: int, method: Literal["random", "quasi"] = "random"
) -> Iterator[dict[str, Any]]:
    """Yield an endless sequence of assignments, determined by `seed`.

    "quasi" spreads them evenly: numbers by a Halton sequence with a random shift (J. H. Halton,
    1960; R. Cranley and T. N. L. Patterson, 1976), choices in rounds, so that n samples cover all n
    options with a weight above 0. Inactive variables are left out. An assignment that a constraint
    refuses is drawn again, at most 200 times.

    Raises:
        VariableError: no assignment satisfied the constraints; the message names the constraint
        that refused most.
    """
    rng = random.Random(seed)  # noqa: S311  # explores, keeps no secret
    names = [name for name in space.order if space[name].is_searchable]
    shifts = {name: rng.random() for name in names}
    bases = dict(zip(names, _primes(), strict=False))
    rounds = {name: _rounds(space[name], rng) for name in names if options(space[name])}
    number = 0

    def advance() -> None:
        nonlocal number
        number += 1

    def place(name: str) -> float:
        if method == "random":
            return rng.random()
        if name in rounds:
            return next(rounds[name])
        return (_radical_inverse(number, bases[name]) + shifts[name]) % 1.0

    while True:
        yield _first_allowed(lambda: assignment_at(space, place), step=advance)


def assignment_at(space: Space, place: Callable[[str], float]) -> dict[str, Any]:
    """Return the assignment at the quantile `place(name)` of each active variable.

    Raises:
        VariableError: a constraint refuses it.
    """
    values = space.complete(
        _draw_values(space, [name for name in space.order if space[name].is_searchable], place)
    )
    return {
        name: values[name] for name in space.order if name in values and space[name].is_searchable
    }


def explain_refusal(space: Space, error: VariableError) -> VariableError:
    """Return the error of a refused assignment, extended by an allowed one if there is any."""
    if "constraint" not in error.context:
        return error
    try:
        example = next(samples(space, seed=0))
    except VariableError as unsatisfiable:
        return unsatisfiable
    return error.with_message(f"{error.message}; {shorten(example)} is allowed")


def _rounds(variable: Variable, rng: random.Random) -> Iterator[float]:
    """Yield quantiles that visit every option once per round, in random order.

    Options with weight 0 are left out.
    """
    count = len(options(variable))
    weights = variable.weights or (1.0,) * count
    reach = [0.0, *accumulate(weights)]
    while True:
        order = [part for part in rng.sample(range(count), count) if weights[part]]
        yield from [(reach[part] + weights[part] * rng.random()) / reach[-1] for part in order]


def _first_allowed(
    draw: Callable[[], dict[str, Any]], *, step: Callable[[], None]
) -> dict[str, Any]:
    refusals: Counter[str] = Counter()
    for _ in range(TRIES):
        step()
        try:
            return draw()
        except VariableError as error:
            constraint = error.context.get("constraint")
            if constraint is None:
                raise
            refusals[str(constraint)] += 1
    worst, times = refusals.most_common(1)[0]
    raise VariableError(
        f"no assignment satisfies the constraints after {TRIES} tries; {worst!r} refused {times} "
        "of them: loosen it, or widen its variables"
    )


def _draw_values(space: Space, names: list[str], place: Callable[[str], float]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name in space.order:
        variable = space[name]
        if name in names and space.is_active(name, values):
            values[name] = value_at(variable, place(name))
        elif variable.has_default and variable.compute is None and space.is_active(name, values):
            values[name] = variable.default
    return values


def options(variable: Variable) -> tuple[Any, ...]:
    """Return the options of a variable; empty for a number."""
    return (False, True) if variable.kind == "boolean" else variable.options


def place_of(variable: Variable, value: Any) -> float:
    """Return a quantile (0 to 1) at which `value_at` returns `value`, the inverse of `value_at`.

    Raises:
        VariableError: the variable does not take `value`.
    """
    variable.check(value)
    if choices := options(variable):
        weights = variable.weights or (1.0,) * len(choices)
        index = next(
            (n for n, it in enumerate(choices) if type(it) is type(value) and it == value), None
        )
        if index is None:
            raise VariableError(f"{value!r} is not an option of {variable.name!r}")
        return (sum(weights[:index]) + weights[index] / 2) / sum(weights)
    low, high = variable.low or 0.0, variable.high or 0.0
    if low == high:
        return 0.0
    if variable.kind == "integer" and not variable.log and variable.prior is None:
        steps = int((high - low) // variable.step) + 1
        return float(((value - low) // variable.step + 0.5) / steps)
    if variable.prior is not None:
        normal = NormalDist(*variable.prior)
        return (normal.cdf(value) - normal.cdf(low)) / (normal.cdf(high) - normal.cdf(low))
    if variable.log:
        return math.log(value / low) / math.log(high / low)
    return float((value - low) / (high - low))


def value_at(variable: Variable, place: float) -> Any:
    """Return the value at quantile `place` (0 to 1) of the variable's distribution."""
    if variable.kind == "boolean":
        return place >= 0.5
    if variable.kind in {"float", "integer"}:
        return _number(variable, place)
    weights = variable.weights or (1.0,) * len(variable.options)
    reach = place * sum(weights)
    for option, weight in zip(variable.options, weights, strict=True):
        reach -= weight
        if reach < 0:
            return option
    return variable.options[-1]


def _number(variable: Variable, place: float) -> float:
    low, high = variable.low or 0.0, variable.high or 0.0
    if variable.kind == "integer" and not variable.log and variable.prior is None:
        steps = int((high - low) // variable.step) + 1
        return int(low) + min(steps - 1, int(place * steps)) * variable.step
    if variable.prior is not None:
        normal = NormalDist(*variable.prior)
        bottom, top = normal.cdf(low), normal.cdf(high)
        value = normal.inv_cdf(min(1 - 1e-12, max(1e-12, bottom + place * (top - bottom))))
    elif variable.log:
        value = math.exp(math.log(low) + place * (math.log(high) - math.log(low)))
    else:
        value = low + place * (high - low)
    return rounded(variable, value)


def rounded(variable: Variable, value: float) -> float:
    """Return the nearest number that the variable accepts."""
    low, high = variable.low or 0.0, variable.high or 0.0
    value = min(high, max(low, value))
    if variable.kind == "integer":
        steps = min(int((high - low) // variable.step), round((value - low) / variable.step))
        return int(low) + steps * variable.step
    return (
        value
        if variable.precision is None
        else min(high, max(low, round(value, variable.precision)))
    )


def _primes() -> Iterator[int]:
    number = 2
    while True:
        if all(number % divisor for divisor in range(2, math.isqrt(number) + 1)):
            yield number
        number += 1


def _radical_inverse(number: int, base: int) -> float:
    value, share = 0.0, 1.0 / base
    while number:
        number, digit = divmod(number, base)
        value += digit * share
        share /= base
    return value
