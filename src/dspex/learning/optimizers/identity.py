"""What a search is, told apart by what its results depend on."""

import inspect
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Any

from dspex.errors import ConflictError
from dspex.execution.clients import LanguageModel
from dspex.execution.clients.address import without_credentials
from dspex.execution.clients.identity import identify
from dspex.execution.context import RunContext
from dspex.execution.modules import Module, Predict
from dspex.language.records.canonical import content_hash
from dspex.language.variables import Space
from dspex.learning.evaluation import Metric
from dspex.learning.optimizers.checks import offered_models
from dspex.learning.optimizers.journal import Entry
from dspex.learning.optimizers.proposer import Optimizer, Task
from dspex.learning.optimizers.search import Search

SCHEME = "3"  # of journals: another one where entries mean something else
_BY_NAME = "2"  # the scheme in which a model was its name

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

    Of a metric that is its source, with what its closure holds; what it calls in turn is not seen.
    Of a model it is the label of its identity: the same name at another server is another model.
    The goal is left out, because another winner may be picked from the same journal.
    """
    validation = "none" if search.validation is None else search.validation.checksum
    return {
        "the scheme of journals": SCHEME,
        "the program": task.program.content_hash,
        "the training rows": task.train.checksum,
        "the validation rows": validation,
        "the metrics": ", ".join(metrics),
        **{
            f"the metric {name!r}": content_hash(source_of(metric))
            for name, metric in metrics.items()
        },
        "the model": ", ".join(sorted({_label(model) for model in _models(module, context)}))
        or "none",
        "the adapter": "none" if context.adapter is None else type(context.adapter).__name__,
        "the optimizer": type(optimizer).__name__,
        "the options of the optimizer": content_hash(recipe_of(optimizer)),
        "the seed": f"{search.seed}, {context.seed}",
        "rows": str(search.rows),
        "trials_at_once": str(search.trials_at_once),
        "on_error": str(search.on_error),
    }


def check_identity(
    begun: Entry, identity: Mapping[str, str], module: Module, *, space: Space, context: RunContext
) -> None:
    """Refuse to go on with a journal of another search.

    A journal of dspex before models had an identity goes on, unless models of the search share a
    name.

    Raises:
        ConflictError: it is one; the message names what differs.
    """
    known = begun["identity"]
    if not isinstance(known, Mapping):
        raise ConflictError(f"the journal was written by another version of dspex; {_MEND}")
    if known.get("the scheme of journals") == _BY_NAME:
        _check_names(module, space=space, context=context)
        names = sorted({_name(model) for model in _models(module, context)})
        identity = {
            **identity,
            "the scheme of journals": _BY_NAME,
            "the model": ", ".join(names) or "none",
        }
    names = [name for name in {**known, **identity} if known.get(name) != identity.get(name)]
    if names:
        said = "; ".join(_difference(name, known.get(name), identity.get(name)) for name in names)
        raise ConflictError(
            f"the journal belongs to another search: {said}. {_MEND[0].upper()}{_MEND[1:]}",
            differs=names,
        )


_MEND = (
    "take another journal (a job: create it anew), or begin afresh (dspex optimize --fresh puts "
    "the old one aside)"
)


def _difference(name: str, there: str | None, here: str | None) -> str:
    if there is None or here is None:
        return f"{name} is {'new' if there is None else 'gone'}"
    is_hash = len(there) == len(here) and min(len(there), len(here)) >= 32 and there.isalnum()
    there, here = (", ".join(map(without_credentials, text.split(", "))) for text in (there, here))
    return (
        f"{name} changed" if is_hash else f"{name} was {there[:_SHOWN]!r} and is {here[:_SHOWN]!r}"
    )


def source_of(metric: Metric) -> list[Any]:
    """Return what tells one metric from another, as JSON: its source, or its full name where there is none."""
    found: Any = inspect.unwrap(metric)
    if isinstance(found, partial):
        return ["partial", source_of(found.func), recipe_of(found.args), recipe_of(found.keywords)]
    if not inspect.isroutine(found):
        return [_text(type(found)), recipe_of(found)]
    found = getattr(found, "__func__", found)  # of a bound method
    cells = (
        [recipe_of(cell.cell_contents) for cell in found.__closure__ or ()]
        if inspect.isfunction(found)
        else []
    )
    owner = recipe_of(getattr(metric, "__self__", None))
    named = getattr(found, "__kwdefaults__", None)
    own = [_text(found), cells, recipe_of(getattr(found, "__defaults__", None)), owner]
    return [*own, recipe_of(named)] if named else own


def _text(found: Any) -> str:
    try:
        return inspect.getsource(found)
    except (OSError, TypeError):
        return f"{found.__module__}.{found.__qualname__}"


def _models(module: Module, context: RunContext) -> list[LanguageModel | str]:
    own = [
        part.model
        for _, part in module.named_modules()
        if isinstance(part, Predict) and part.model is not None
    ]
    return own if context.model is None else [context.model, *own]


def _name(model: LanguageModel | str) -> str:
    return model if isinstance(model, str) else model.name


def _label(model: LanguageModel | str) -> str:
    return without_credentials(model) if isinstance(model, str) else identify(model).label


def _check_names(module: Module, *, space: Space, context: RunContext) -> None:
    """Refuse a journal that knows models by their names where the search has several of one name.

    Raises:
        ConflictError: it has.
    """
    models = [*_models(module, context), *offered_models(space)]
    if context.models is not None:
        models = [context.models(model) if isinstance(model, str) else model for model in models]
    names: dict[str, str] = {}
    for model in models:
        name, label = _name(model), _label(model)
        if names.setdefault(name, label) != label:
            raise ConflictError(
                "the journal was written by a version of dspex that knew models by their names, "
                "and "
                f"{names[name]!r} and {label!r} have the same; {_MEND}"
            )


def recipe_of(value: Any) -> Any:
    """Return what a recipe is made of, as JSON; of a function its source, of what else has no JSON form the kind."""
    if is_dataclass(value) and not isinstance(value, type):
        return [
            type(value).__name__,
            {part.name: recipe_of(getattr(value, part.name)) for part in fields(value)},
        ]
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, list | tuple):
        return [recipe_of(item) for item in value]
    if isinstance(value, Mapping):
        return {str(name): recipe_of(item) for name, item in value.items()}
    return _text(value) if inspect.isfunction(value) else type(value).__name__
