"""What a search is, told apart by what its results depend on."""

import inspect
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Any

from dspex.errors import ConflictError
from dspex.execution.context import RunContext
from dspex.execution.modules import Module, Predict
from dspex.language.records.canonical import content_hash
from dspex.learning.evaluation import Metric
from dspex.learning.optimizers.journal import Entry
from dspex.learning.optimizers.proposer import Optimizer, Task
from dspex.learning.optimizers.search import Search

SCHEME = "2"  # of journals: another one where entries mean something else

_SHOWN = 60
_PLAIN = str | int | float | None


def identity_of(
    task: Task,
    module: Module,
    metrics: Mapping[str, Metric],
    *,
    optimizer: Optimizer,
    search: Search,
    context: RunContext,
) -> dict[str, str]:
    """Return everything that the results of a search depend on, each by a name for people.

    Of a metric that is its source, with what its closure holds; what it calls in turn is not seen. Of a model it is the
    name: the same name at another server counts as the same model. The goal is left out, because another winner may be
    picked from the same journal.
    """
    validation = "none" if search.validation is None else search.validation.checksum
    return {
        "the scheme of journals": SCHEME,
        "the program": task.program.content_hash,
        "the training rows": task.train.checksum,
        "the validation rows": validation,
        "the metrics": ", ".join(metrics),
        **{f"the metric {name!r}": content_hash(source_of(metric)) for name, metric in metrics.items()},
        "the model": ", ".join(_models(module, context)) or "none",
        "the adapter": "none" if context.adapter is None else type(context.adapter).__name__,
        "the optimizer": type(optimizer).__name__,
        "the options of the optimizer": content_hash(recipe_of(optimizer)),
        "the seed": f"{search.seed}, {context.seed}",
        "rows": str(search.rows),
        "trials_at_once": str(search.trials_at_once),
        "on_error": str(search.on_error),
    }


def check_identity(begun: Entry, identity: Mapping[str, str]) -> None:
    """Refuse to go on with a journal of another search.

    Raises:
        ConflictError: it is one; the message names what differs.
    """
    known = begun["identity"]
    if not isinstance(known, Mapping):
        raise ConflictError(f"the journal was written by another version of dspex; {_MEND}")
    names = [name for name in {**known, **identity} if known.get(name) != identity.get(name)]
    if names:
        said = "; ".join(_difference(name, known.get(name), identity.get(name)) for name in names)
        raise ConflictError(
            f"the journal belongs to another search: {said}. {_MEND[0].upper()}{_MEND[1:]}", differs=names
        )


_MEND = "take another journal (a job: create it anew), or begin afresh (dspex optimize --fresh puts the old one aside)"


def _difference(name: str, there: str | None, here: str | None) -> str:
    if there is None or here is None:
        return f"{name} is {'new' if there is None else 'gone'}"
    is_hash = len(there) == len(here) and min(len(there), len(here)) >= 32 and there.isalnum()
    return f"{name} changed" if is_hash else f"{name} was {there[:_SHOWN]!r} and is {here[:_SHOWN]!r}"


def source_of(metric: Metric) -> list[Any]:
    """Return what tells one metric from another, as JSON: its source, or its full name where there is none."""
    found: Any = inspect.unwrap(metric)
    if isinstance(found, partial):
        return ["partial", source_of(found.func), recipe_of(found.args), recipe_of(found.keywords)]
    if not inspect.isroutine(found):
        return [_text(type(found)), recipe_of(found)]
    found = getattr(found, "__func__", found)  # of a bound method
    cells = [recipe_of(cell.cell_contents) for cell in found.__closure__ or ()] if inspect.isfunction(found) else []
    owner = recipe_of(getattr(metric, "__self__", None))
    named = getattr(found, "__kwdefaults__", None)
    own = [_text(found), cells, recipe_of(getattr(found, "__defaults__", None)), owner]
    return [*own, recipe_of(named)] if named else own


def _text(found: Any) -> str:  # noqa: ANN401  # a function or a class
    try:
        return inspect.getsource(found)
    except (OSError, TypeError):
        return f"{found.__module__}.{found.__qualname__}"


def _models(module: Module, context: RunContext) -> list[str]:
    own = [part.model for _, part in module.named_modules() if isinstance(part, Predict) and part.model is not None]
    given = [] if context.model is None else [context.model.name]
    return sorted({*given, *(model if isinstance(model, str) else model.name for model in own)})


def recipe_of(value: Any) -> Any:  # noqa: ANN401  # any value, as JSON
    """Return what a recipe is made of, as JSON; of a function its source, of what else has no JSON form the kind."""
    if is_dataclass(value) and not isinstance(value, type):
        return [type(value).__name__, {part.name: recipe_of(getattr(value, part.name)) for part in fields(value)}]
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, list | tuple):
        return [recipe_of(item) for item in value]
    if isinstance(value, Mapping):
        return {str(name): recipe_of(item) for name, item in value.items()}
    return _text(value) if inspect.isfunction(value) else type(value).__name__
