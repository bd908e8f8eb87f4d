"""Agreement of repeated measurements, against published figures."""

import math

import pytest

from dspex.errors import DefinitionError
from dspex.learning.statistics.reliability import intraclass

# six things rated four times, table 2 of P. Shrout and J. Fleiss (1979)
RATINGS = ((9, 2, 5, 8), (6, 1, 3, 2), (8, 4, 6, 8), (7, 1, 2, 6), (10, 5, 6, 9), (6, 2, 4, 7))


def test_the_correlation_is_that_of_the_published_table() -> None:
    assert round(intraclass(RATINGS), 2) == 0.17
    # mean squares of the table: 11.24 between things, 6.26 within
    assert intraclass(RATINGS) == pytest.approx((11.24 - 6.26) / (11.24 + 3 * 6.26), abs=1e-3)


def test_the_ends_of_the_scale() -> None:
    assert intraclass([(0.0, 0.0), (1.0, 1.0)]) == 1.0
    assert intraclass([(0.0, 1.0), (1.0, 0.0)]) == -1.0
    assert math.isnan(intraclass([(1.0, 1.0), (1.0, 1.0)]))
    assert math.isnan(intraclass([(0.0, 1.0)]))
    assert math.isnan(intraclass([]))


@pytest.mark.parametrize("groups", [[(1.0,), (2.0,)], [(1.0, 2.0), (1.0, 2.0, 3.0)]])
def test_things_are_measured_equally_often(groups: list[tuple[float, ...]]) -> None:
    with pytest.raises(DefinitionError, match="equally often"):
        intraclass(groups)
