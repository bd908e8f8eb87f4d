"""Checks before a search spends anything."""

from dspex.errors import DefinitionError
from dspex.execution.context import RunContext
from dspex.language.variables import Space
from dspex.learning.evaluation import Dataset
from dspex.learning.evaluation.dataset import check_rows
from dspex.learning.optimizers.search import Search


def check_splits(train: Dataset, search: Search) -> None:
    """Check that all splits are datasets and that there are training rows.

    Raises:
        DefinitionError: the message names the split.
    """
    for label, rows in {
        "training": train,
        "validation": search.validation,
        "test": search.test,
    }.items():
        if rows is not None or label == "training":
            check_rows(rows, f"the {label} rows")
    if not len(train):
        raise DefinitionError("the training set is empty; an optimizer needs rows to learn from")


def check_optimizer(optimizer: object) -> None:
    """Check that `optimizer` is an instance rather than a class or a name.

    Raises:
        DefinitionError: it is a class or a string.
    """
    if isinstance(optimizer, type | str):
        raise DefinitionError(
            f"{optimizer!r} is not an optimizer; create one, such as "
            "dspex.RandomSearch(candidates=8)"
        )


def check_models(space: Space, context: RunContext) -> None:
    """Open every model that the search may choose, so that a missing key fails now.

    Raises:
        ConfigurationError: a model cannot be opened.
    """
    for text in offered_models(space):
        context.model_for(text)


def offered_models(space: Space) -> list[str]:
    """Return the model strings among which a search may choose."""
    bound = [
        (variable, path)
        for variable in space.values()
        for path in variable.paths
        if path.endswith(".model")
    ]
    options = [option for variable, path in bound for option in variable.sample_values(path)]
    return [option for option in options if isinstance(option, str)]
