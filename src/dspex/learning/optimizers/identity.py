"""The identity of a search: everything that its results depend on."""

import inspect
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from tokenize import TokenError
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
from dspex.learning.evaluation.judge import JudgeMetric
from dspex.learning.evaluation.metric import metric_name
from dspex.learning.evaluation.metrics import METRICS
from dspex.learning.optimizers.checks import offered_models
from dspex.learning.optimizers.current_values import as_program
from dspex.learning.optimizers.journal import Entry
from dspex.learning.optimizers.proposer import Optimizer, Task
from dspex.learning.optimizers.search import Search

SCHEME = "3"  # of journals; it changes with the meaning of entries
_BY_NAME = "2"  # the scheme in which models were known by their names
_BUILT_IN = "built in: "  # and the name of the metric
_SHOWN = 60  # characters of a value in a message
_PLAIN = str | int | float | None


def identity_of(
    task: Task,
    module: Module,
    metrics: Mapping[str, Metric | JudgeMetric],
    *,
    optimizer: Optimizer,
    search: Search,
    context: RunContext,
) -> dict[str, str]:
    """Return everything that the results of a search depend on, each by a name for people.

    A metric is known by its source and the values in its closure, not by the functions that it
    calls; a built-in metric by its name; a judge by its program and models. A model is known by the
    label of its identity: the same name at another server is another model. The goal is left out,
    because another winner may be picked from the same journal.
    """
    validation = "none" if search.validation is None else search.validation.checksum
    return {
        "the scheme of journals": SCHEME,
        "the program": task.program.content_hash,
        "the training rows": task.train.checksum,
        "the validation rows": validation,
        "the metrics": ", ".join(metrics),
        **{
            f"the metric {name!r}": _judge_identity(metric, context)
            if isinstance(metric, JudgeMetric)
            else _metric_identity(metric)
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
        **({"race": "True"} if search.race else {}),  # journals from before races have none
    }


def check_identity(
    entry: Entry, identity: Mapping[str, str], module: Module, *, space: Space, context: RunContext
) -> None:
    """Check that a journal belongs to this search, given the entry that it begins with.

    Journals of earlier versions are accepted: from before models had identities, unless models of
    the search share a name; and with a hash of the source of a built-in metric.

    Raises:
        ConflictError: it belongs to another search; the message names what differs.
    """
    stored = entry["identity"]
    if not isinstance(stored, Mapping):
        raise ConflictError(f"the journal was written by another version of dspex; {_FIX}")
    if stored.get("the scheme of journals") == _BY_NAME:
        _check_names(module, space=space, context=context)
        names = sorted({_name(model) for model in _models(module, context)})
        identity = {
            **identity,
            "the scheme of journals": _BY_NAME,
            "the model": ", ".join(names) or "none",
        }
    pairs = {name: (stored.get(name), identity.get(name)) for name in {**stored, **identity}}
    differences = {
        name: _difference(name, before, now)
        for name, (before, now) in pairs.items()
        if before != now and not (before and _is_hash(before) and now and now.startswith(_BUILT_IN))
    }
    if differences:
        raise ConflictError(
            f"the journal belongs to another search: {'; '.join(differences.values())}. "
            f"{_FIX[0].upper()}{_FIX[1:]}",
            differs=list(differences),
        )


_FIX = (
    "take another journal (a job: create it anew), or begin afresh (dspex optimize --fresh puts "
    "the old one aside)"
)


def _difference(name: str, before: str | None, now: str | None) -> str:
    if before is None or now is None:
        return f"{name} is {'new' if before is None else 'gone'}"
    if _is_hash(before) and len(before) == len(now):
        return f"{name} changed"
    before, now = (", ".join(map(without_credentials, text.split(", "))) for text in (before, now))
    return f"{name} was {before[:_SHOWN]!r} and is {now[:_SHOWN]!r}"


def _is_hash(text: str) -> bool:
    return text.isalnum() and len(text) >= 32


def _metric_identity(metric: Metric) -> str:
    name = metric_name(metric)
    return f"{_BUILT_IN}{name}" if METRICS.get(name) is metric else content_hash(source_of(metric))


def _judge_identity(judge: JudgeMetric, context: RunContext) -> str:
    labels = sorted({_label(model) for model in _models(judge.module, judge.context(context))})
    return content_hash([as_program(judge.module).content_hash, ", ".join(judge.scores), labels])


def source_of(metric: Metric) -> list[Any]:
    """Return what distinguishes a metric, as JSON: its source, or its full name without one."""
    function: Any = inspect.unwrap(metric)
    if isinstance(function, partial):
        arguments, keywords = recipe_of(function.args), recipe_of(function.keywords)
        return ["partial", source_of(function.func), arguments, keywords]
    if not inspect.isroutine(function):
        return [_source(type(function)), recipe_of(function)]
    function = getattr(function, "__func__", function)  # of a bound method
    cells = (
        [recipe_of(cell.cell_contents) for cell in function.__closure__ or ()]
        if inspect.isfunction(function)
        else []
    )
    owner = recipe_of(getattr(metric, "__self__", None))
    keyword_defaults = getattr(function, "__kwdefaults__", None)
    parts = [_source(function), cells, recipe_of(getattr(function, "__defaults__", None)), owner]
    return [*parts, recipe_of(keyword_defaults)] if keyword_defaults else parts


def _source(value: Any) -> str:
    try:
        return inspect.getsource(value)
    except (OSError, TypeError, SyntaxError, TokenError):  # no file, or one that is not Python
        return f"{value.__module__}.{value.__qualname__}"


def _models(module: Module, context: RunContext) -> list[LanguageModel | str]:
    models = [
        part.model
        for _, part in module.named_modules()
        if isinstance(part, Predict) and part.model is not None
    ]
    return models if context.model is None else [context.model, *models]


def _name(model: LanguageModel | str) -> str:
    return model if isinstance(model, str) else model.name


def _label(model: LanguageModel | str) -> str:
    return without_credentials(model) if isinstance(model, str) else identify(model).label


def _check_names(module: Module, *, space: Space, context: RunContext) -> None:
    """Check that no two models of the search share a name, which an old journal knows them by.

    Raises:
        ConflictError: two models do.
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
                f"and {names[name]!r} and {label!r} have the same; {_FIX}"
            )


def recipe_of(value: Any) -> Any:
    """Return the fields of an optimizer or another value, as JSON.

    A function is its source; any other value without a JSON form is the name of its class.
    """
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
    return _source(value) if inspect.isfunction(value) else type(value).__name__
