"""Common variables of programs, with their constraints."""

from collections.abc import Sequence

from dspex.language.variables.constraint import Constraint
from dspex.language.variables.expression import Expression, var
from dspex.language.variables.kinds import Choice, Float, Integer
from dspex.language.variables.space import Space
from dspex.language.variables.variable import Variable


def model_settings(
    path: str = "self", *, models: Sequence[str] = (), adapters: Sequence[str] = ()
) -> Space:
    """Return temperature, top_p and max_tokens of one module, and optionally its model and adapter.

    `top_p` is searched only above temperature 0, where it has an effect. Assignments with both
    values far from neutral are rewritten, because providers advise to change only one of the two.
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
    """Return the choice between the alternatives of the switch at `path`.

    The first label is the default.

    It binds only to a switch: `OneOf(Predict(QA), ChainOfThought(QA))`, or the result of
    `strategies(QA)` of `dspex.variables`. Such a switch already has this variable with all its
    labels; `with_variables` replaces it, to offer fewer labels or another default.

    Raises:
        VariableError: there are no labels, or two are equal.
    """
    default = labels[0] if labels else None
    return Variable(
        name=f"{path}.self", kind="module", options=labels, default=default, paths=(f"{path}.self",)
    )


def demonstration_count(highest: int = 8) -> Variable:
    """Return the number of demonstrations, from 0; not bound to a path."""
    return Integer(0, highest, default=min(4, highest), name="demonstrations")


def retriever_k(path: str, highest: int = 20, *, default: int | None = None) -> Variable:
    """Return the number of passages that the module at `path` retrieves.

    It binds to any module that reads an attribute `k` when it runs; the slot is `config.k`. The
    default is 5, or `highest` if that is less.
    """
    default_k = min(5, highest) if default is None else default
    return Integer(1, highest, default=default_k).named(f"{path}.config.k", f"{path}.config.k")


def reply_room(max_tokens: str, label: Expression, minimum: int = 256) -> Constraint:
    """Return a constraint: where `label` reasons first, `max_tokens` is at least `minimum`."""
    return Constraint(
        name="room for reasoning",
        test=~label | (var(max_tokens) >= minimum),
        rewrite={max_tokens: minimum},
    )
