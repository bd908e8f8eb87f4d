"""Fusion of a lexical and a dense ranking into one."""

from collections.abc import Sequence
from typing import TypeVar

from dspex.arguments import checks_values

IdT = TypeVar("IdT", int, str)


@checks_values
def fuse(
    lexical: Sequence[IdT], dense: Sequence[IdT], weight: float, *, constant: int = 60
) -> list[tuple[IdT, float]]:
    """Return ids with their weighted reciprocal rank, best first; equal scores in order of id.

    Source: Cormack et al., "Reciprocal Rank Fusion outperforms Condorcet and individual Rank
    Learning Methods", 2009.

    Args:
        lexical: ids, best first.
        dense: ids, best first.
        weight: the share of the dense ranking: 0 is the lexical ranking alone, 1 the dense one.
        constant: how little the first ranks differ.
    """
    scores: dict[IdT, float] = {}
    for ids, share in ((lexical, 1 - weight), (dense, weight)):
        for rank, key in enumerate(ids if share else (), 1):
            scores[key] = scores.get(key, 0.0) + share / (constant + rank)
    return sorted(scores.items(), key=lambda item: (-item[1], item[0]))
