"""Values of ville 0.1.0 and gbstats 0.8.0 are those that the packages return for the same input."""

import math
import random

import pytest

from dspex.errors import DefinitionError
from dspex.learning.statistics.sequences import mixture_precision
from dspex.statistics import (
    BoundedMean,
    BoundedMeanTest,
    Sample,
    difference_p_value,
    difference_sequence,
    mean_sequence,
    proportion_difference_sequence,
    proportion_sequence,
)

FIRST = [math.sin(3 * n) * 2 + math.cos(n * n) + 0.1 * n / 100 for n in range(1, 301)]
SECOND = [math.cos(5 * n) * 3 + 0.2 for n in range(1, 251)]
SHARES = [0.5 + 0.5 * math.sin(n * n) for n in range(1, 201)]


def test_sequence_of_a_mean_equals_that_of_ville():
    interval = mean_sequence(Sample.of(FIRST))
    expected = (-0.09419150021705863, 0.468706255089084)
    assert (interval.low, interval.high) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("successes", "total", "alpha", "low", "high"),
    [
        (0, 1, 0.05, 0.0, 0.9750000000000001),
        (3, 10, 0.05, 0.03664029037550996, 0.7332594738358065),
        (7, 40, 0.01, 0.032589335892985835, 0.44413001368790905),
        (300, 1000, 0.05, 0.2503379525627246, 0.3530151991818501),
        (1000, 1000, 0.05, 0.9901444008427149, 1.0),
    ],
)
def test_sequence_of_a_proportion_equals_that_of_ville(successes, total, alpha, low, high):
    interval = proportion_sequence(successes, total, alpha=alpha)
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=1e-9)


@pytest.mark.parametrize(
    ("mean", "bounds", "side", "expected"),
    [
        (0.4, (0, 1), "above", 4.640812128928285),
        (0.4, (0, 1), "below", -12.085902011337183),
        (0.1, (-1, 1), "above", 25.495585324294098),
        (0.1, (-1, 1), "below", -36.68531645423837),
    ],
)
def test_evidence_of_bets_equals_that_of_ville(mean, bounds, side, expected):
    test = BoundedMeanTest(mean, low=bounds[0], high=bounds[1], side=side)
    for share in SHARES:
        test.add(share)
    assert test.log_evidence == pytest.approx(expected, abs=1e-9)


def test_sequence_of_a_bounded_mean_is_inside_of_that_of_ville_on_a_grid():
    sequence = BoundedMean()
    assert sequence.interval() == BoundedMean(low=0, high=1).interval()
    sequence.add(*SHARES)
    interval = sequence.interval()
    assert 0.4099409940994099 <= interval.low <= 0.4099409940994099 + 2e-4
    assert 0.568956895689569 - 2e-4 <= interval.high <= 0.568956895689569
    wide = BoundedMean(low=-3, high=1)
    wide.add(*(4 * share - 3 for share in SHARES))
    assert wide.interval().low == pytest.approx(4 * interval.low - 3, abs=1e-9)
    assert wide.mean == pytest.approx(4 * sum(SHARES) / 200 - 3)


def test_sequence_of_a_difference_and_its_p_value_equal_those_of_gbstats():
    second, first = Sample.of(SECOND), Sample.of(FIRST)
    interval = difference_sequence(second, first)
    expected = (-0.48495198183859944, 0.515260348355189)
    assert (interval.low, interval.high) == pytest.approx(expected, abs=1e-9)
    assert difference_p_value(second, first) == 1.0


def test_p_value_is_below_alpha_exactly_if_the_interval_excludes_no_difference():
    for shift in (0.3, 0.5, 0.52, 0.55, 0.6, 1.0):
        first, second = Sample.of([value + shift for value in FIRST]), Sample.of(SECOND)
        p_value = difference_p_value(first, second)
        assert (difference_sequence(first, second).low > 0) == (p_value < 0.05)
    same = Sample(count=200, mean=1.0, variance=0.0)
    assert difference_p_value(same, same) == 1.0
    assert difference_p_value(same, Sample(count=200, mean=2.0, variance=0.0)) == 0.0


def test_asymptotic_sequences_are_infinite_for_few_values():
    few = Sample.of(FIRST[:99])
    assert mean_sequence(few).high == math.inf
    assert math.isfinite(mean_sequence(few, smallest=50).high)
    assert difference_sequence(few, Sample.of(SECOND)).low == -math.inf
    assert difference_p_value(few, Sample.of(SECOND)) == 1.0


def test_difference_of_proportions_is_exact_from_the_first_value():
    interval = proportion_difference_sequence((0, 0), (0, 0))
    assert (interval.low, interval.high) == (-1.0, 1.0)
    interval = proportion_difference_sequence((50, 60), (5, 60))
    assert 0 < interval.low < 45 / 60 < interval.high
    back = proportion_difference_sequence((5, 60), (50, 60))
    assert (back.low, back.high) == pytest.approx((-interval.high, -interval.low))


def test_looking_after_each_value_is_wrong_at_most_as_often_as_alpha():
    rng = random.Random(5)
    runs, wrong = 400, 0
    for _ in range(runs):
        test = BoundedMeanTest(0.3, alpha=0.1)
        for _ in range(150):
            test.add(float(rng.random() < 0.3))
        wrong += test.is_refuted
    assert wrong / runs <= 0.1
    assert test.p_value >= 0.1 or test.is_refuted


def test_rows_of_a_dataset_are_decided_before_the_last_one():
    rows = [1.0] * 30 + [0.0] * 70
    rng, counts = random.Random(3), list[int]()
    for _ in range(20):
        rng.shuffle(rows)
        test = BoundedMeanTest(0.5, side="below", population=100)
        for count, row in enumerate(rows, start=1):
            test.add(row)
            if test.is_refuted:
                counts.append(count)
                break
    assert len(counts) == 20
    assert max(counts) <= 71  # by then even ones alone could not make it up


def test_population_decides_at_the_latest_at_its_end():
    test = BoundedMeanTest(0.5, side="above", population=4)
    for value in (0.0, 1.0, 1.0):
        test.add(value)
    assert not test.is_refuted
    test.add(1.0)
    assert test.is_refuted
    assert test.p_value == 0.0
    with pytest.raises(DefinitionError, match="all 4 values"):
        test.add(1.0)
    equal = BoundedMeanTest(0.5, population=2)
    equal.add(0.0)
    equal.add(1.0)
    assert not equal.is_refuted


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: BoundedMeanTest(1.0), "between 0 and 1, not 1.0"),
        (lambda: BoundedMeanTest(0.5, alpha=5), "alpha must be between 0 and 1"),
        (lambda: BoundedMeanTest(0.5).add(1.5), "from 0 to 1, not 1.5"),
        (lambda: BoundedMean(low=1, high=0), "must be below the upper"),
        (lambda: proportion_sequence(3, 2), "from 0 to 2, not 3"),
        (lambda: proportion_sequence(1, 2, prior=(0, 1)), "prior must be above 0"),
        (lambda: proportion_difference_sequence((1, 2), (1, 2), alpha=1), "alpha"),
        (lambda: mixture_precision(0, alpha=0.05), "best_at"),
    ],
)
def test_what_no_sequence_can_be_of_is_refused(call, message):
    with pytest.raises(DefinitionError, match=message):
        call()
