"""What a search refuses before it spends anything."""

from dspex.errors import DefinitionError
from dspex.execution.context import RunContext
from dspex.language.variables import Space
from dspex.learning.evaluation import Dataset
from dspex.learning.evaluation.dataset import check_rows
from dspex.learning.optimizers.search import Search


def check_splits(train: Dataset, search: Search) -> None:
    """Refuse rows that are no datasets, and to learn from none.

    Raises:
        DefinitionError: naming the rows.
    """
    for label, rows in {"training": train, "validation": search.validation, "test": search.test}.items():
        if rows is not None or label == "training":
            check_rows(rows, f"the {label} rows")
    if not len(train):
        raise DefinitionError("there are no training rows")


def check_optimizer(optimizer: object) -> None:
    """Refuse the class of an optimizer, or its name, in its place.

    Raises:
        DefinitionError: it says what to give.
    """
    if isinstance(optimizer, type | str):
        raise DefinitionError(f"{optimizer!r} is no optimizer; make one, such as dspex.RandomSearch(candidates=8)")


def check_models(space: Space, context: RunContext) -> None:
    """Open every model that may be chosen, so that one without a key does not end the search in its middle.

    Raises:
        ConfigurationError: one of them cannot be opened.
    """
    for text in offered_models(space):
        context.model_for(text)


def offered_models(space: Space) -> list[str]:
    """Return the model strings among which a search may choose."""
    bound = [(variable, path) for variable in space.values() for path in variable.paths if path.endswith(".model")]
    options = [option for variable, path in bound for option in variable.offered(path)]
    return [option for option in options if isinstance(option, str)]
