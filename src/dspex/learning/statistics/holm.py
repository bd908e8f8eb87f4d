"""Several tests at once."""

from collections.abc import Sequence

from dspex.errors import DefinitionError


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values adjusted for their number, in the same order (S. Holm, 1979).

    Rejecting those below alpha is wrong about any of them with a probability of at most alpha, for
    any dependence.

    Raises:
        DefinitionError: one is not from 0 to 1.
    """
    if wrong := [value for value in p_values if not 0 <= value <= 1]:
        raise DefinitionError(f"a p-value is a number from 0 to 1, not {wrong[0]!r}")
    adjusted, largest = [0.0] * len(p_values), 0.0
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted
