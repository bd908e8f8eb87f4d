"""Variables that most programs have, and the constraints that belong to them."""

from collections.abc import Sequence

from dspex.language.variables.constraint import Constraint
from dspex.language.variables.expression import Expression, var
from dspex.language.variables.kinds import Choice, Float, Integer
from dspex.language.variables.space import Space
from dspex.language.variables.variable import Variable


def model_settings(path: str = "self", *, models: Sequence[str] = (), adapters: Sequence[str] = ()) -> Space:
    """Return temperature, top_p and max_tokens of one module, and on request its model and adapter.

    `top_p` is searched only above temperature 0, where it has an effect; both far from their neutral values at once is
    refused, as providers advise to change one of the two.
    """
    temperature, top_p = f"{path}.temperature", f"{path}.top_p"
    variables: list[Variable] = [
        Float(0, 1.5, precision=2, default=0.0).named(temperature, temperature),
        Float(0.1, 1, precision=2, default=1.0, when=var(temperature) > 0).named(top_p, top_p),
        Integer(64, 4096, log=True, default=1024).named(f"{path}.max_tokens", f"{path}.max_tokens"),
    ]
    if models:
        variables.append(Choice(*models).named(f"{path}.model", f"{path}.model"))
    if adapters:
        variables.append(Choice(*adapters).named(f"{path}.adapter", f"{path}.adapter"))
    not_both = Constraint(
        name="temperature or top_p",
        test=(var(temperature) <= 1.0) | (var(top_p) >= 0.5),
        rewrite={top_p: 1.0},
    )
    return Space(variables, [not_both])


def strategy(path: str, *labels: str) -> Variable:
    """Return which alternative of the switch at `path` is taken; the first label is the default.

    It binds to a switch and nothing else: `OneOf(Predict(QA), ChainOfThought(QA))`, or what `strategies(QA)` of
    `dspex.variables` makes. Such a switch has this variable already, with all its labels; bound with
    `with_variables`, this one replaces it, with fewer labels or another default.

    Raises:
        VariableError: there is no label, or two are the same.
    """
    default = labels[0] if labels else None
    return Variable(name=f"{path}.self", kind="module", options=labels, default=default, paths=(f"{path}.self",))


def demonstration_count(highest: int = 8) -> Variable:
    """Return how many demonstrations an optimizer shows, 0 among them; bound to no place."""
    return Integer(0, highest, default=min(4, highest), name="demonstrations")


def retriever_k(path: str, highest: int = 20, *, default: int | None = None) -> Variable:
    """Return how many passages the module at `path` brings.

    It binds to any module that keeps the count in an attribute `k` and reads it when it runs; the slot is `config.k`.
    The default is 5, or `highest` where that is less.
    """
    chosen = min(5, highest) if default is None else default
    return Integer(1, highest, default=chosen).named(f"{path}.config.k", f"{path}.config.k")


def reply_room(max_tokens: str, label: Expression, needed: int = 256) -> Constraint:
    """Return the constraint that a module which reasons first has room for it: `max_tokens` is raised to `needed`."""
    return Constraint(
        name="room for reasoning",
        test=~label | (var(max_tokens) >= needed),
        rewrite={max_tokens: needed},
    )
