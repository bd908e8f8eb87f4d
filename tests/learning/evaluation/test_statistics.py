import itertools
import math
import random

import pytest

from dspex.errors import DefinitionError
from dspex.learning.evaluation.statistics import (
    bootstrap,
    mcnemar,
    mean_interval,
    percentile,
    sign_flip,
    wilson,
)


def test_wilson_agrees_with_published_values():
    interval = wilson(
        8, 10
    )  # Newcombe 1998, Stat. Med. 17: table I for other counts; this one by its formula
    assert (interval.low, interval.high) == pytest.approx((0.4902, 0.9433), abs=5e-4)
    assert wilson(0, 10).low == 0.0
    assert wilson(10, 10).high == 1.0
    assert math.isnan(wilson(0, 0).low)


def test_wilson_covers_the_truth_about_as_often_as_it_says():
    rng = random.Random(1)
    hits = 0
    for _ in range(2000):
        interval = wilson(sum(rng.random() < 0.8 for _ in range(30)), 30)
        hits += interval.low <= 0.8 <= interval.high
    assert 0.93 <= hits / 2000 <= 0.98


def test_bootstrap_is_seeded_and_close_to_the_normal_interval():
    rng = random.Random(2)
    values = [rng.gauss(5, 2) for _ in range(200)]
    interval = bootstrap(values, seed=1)
    assert interval == bootstrap(values, seed=1)
    half = 1.96 * 2 / math.sqrt(200)
    assert (interval.high - interval.low) / 2 == pytest.approx(half, rel=0.2)
    assert mean_interval([0.5, 1.0, 0.0]) != wilson(2, 3)


def test_mcnemar_is_the_two_sided_binomial_test():
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(5, 0) == pytest.approx(2 / 32)
    assert mcnemar(9, 1) == pytest.approx(22 / 1024)


def test_sign_flip_is_exact_for_few_pairs_and_agrees_with_sampling_for_many():
    few = [0.5, 0.25, -0.1, 0.3, 0.0]
    flips = itertools.product((1, -1), repeat=4)
    nonzero = [value for value in few if value]
    observed = abs(sum(nonzero))
    expected = [
        abs(sum(s * v for s, v in zip(signs, nonzero, strict=True))) >= observed - 1e-12
        for signs in flips
    ]
    assert sign_flip(few) == pytest.approx(sum(expected) / 16)
    rng = random.Random(3)
    many = [rng.gauss(0.3, 1.0) for _ in range(100)]
    z = abs(sum(many)) / math.sqrt(sum(v * v for v in many))
    assert sign_flip(many, seed=1) == pytest.approx(math.erfc(z / math.sqrt(2)), abs=0.02)


@pytest.mark.parametrize("scale", [1e-14, 1e-6, 1.0, 1e8])
def test_sign_flip_does_not_depend_on_the_unit(scale):
    values = [0.1, 0.2, 0.3, 0.4, 0.7, 0.6, -0.9, 0.11]
    assert sign_flip([value * scale for value in values]) == sign_flip(values)
    assert sign_flip([0.1 * scale] * 8) == 2 / 2**8


def test_what_is_no_share_is_refused():
    for wrong in (
        lambda: wilson(5, 4),
        lambda: wilson(3, 4, confidence=95),
        lambda: bootstrap([1, 2], confidence=1),
    ):
        with pytest.raises(DefinitionError):
            wrong()


def test_percentile_interpolates():
    assert percentile([1, 2, 3, 4], 0.5) == 2.5
    assert math.isnan(percentile([], 0.5))
