"""What every statistic checks of its arguments."""

from dspex.errors import DefinitionError


def check_share(name: str, value: float, *, example: str) -> None:
    """Check that `value` is between 0 and 1.

    Raises:
        DefinitionError: it is not.
    """
    if not 0 < value < 1:
        raise DefinitionError(f"{name} must be between 0 and 1, such as {example}, not {value!r}")


def check_confidence(confidence: float) -> None:
    """Check a confidence level; raises `DefinitionError`."""
    check_share("confidence", confidence, example="0.95")


def check_alpha(alpha: float) -> None:
    """Check a significance level; raises `DefinitionError`."""
    check_share("alpha", alpha, example="0.05")


def check_count(successes: int, total: int) -> None:
    """Check a count out of a total.

    Raises:
        DefinitionError: `successes` is not from 0 to `total`.
    """
    if not 0 <= successes <= total:
        raise DefinitionError(f"successes must be from 0 to {total}, not {successes!r}")
