import itertools
import math
import random

import pytest
from scipy import stats

from dspex.errors import DefinitionError
from dspex.learning.statistics.intervals import percentile
from dspex.statistics import (
    Sample,
    bootstrap,
    mcnemar,
    mean_interval,
    newcombe,
    sign_flip,
    t_interval,
    t_test,
    welch,
    welch_test,
    wilson,
)

FEW = [0.2, 0.9, 0.4, 0.4, 0.7]
MORE = [0.1 * (n * n % 11) for n in range(1, 30)]


def test_wilson_agrees_with_published_values():
    # Newcombe 1998, Stat. Med. 17: table I for other counts; this one by its formula
    interval = wilson(8, 10)
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


def test_invalid_shares_samples_and_confidences_are_refused():
    for wrong in (
        lambda: wilson(5, 4),
        lambda: wilson(3, 4, confidence=95),
        lambda: bootstrap([1, 2], confidence=1),
        lambda: newcombe((1, 2), (3, 2)),
        lambda: t_interval(Sample.of(FEW), confidence=0),
        lambda: welch(Sample.of(FEW), Sample.of(MORE), confidence=2),
        lambda: Sample(count=-1, mean=0, variance=0),
        lambda: Sample(count=1, mean=0, variance=math.nan),
    ):
        with pytest.raises(DefinitionError):
            wrong()


def test_percentile_interpolates():
    assert percentile([1, 2, 3, 4], 0.5) == 2.5
    assert math.isnan(percentile([], 0.5))


@pytest.mark.parametrize("total", [1, 7, 40, 1000])
def test_wilson_and_mcnemar_equal_those_of_scipy(total):
    for successes in {0, 1, total // 3, total}:
        for confidence in (0.8, 0.95, 0.999):
            expected = stats.binomtest(successes, total).proportion_ci(confidence, "wilson")
            interval = wilson(successes, total, confidence=confidence)
            assert (interval.low, interval.high) == pytest.approx(tuple(expected), abs=1e-12)
        p_value = stats.binomtest(successes, total).pvalue
        assert mcnemar(successes, total - successes) == pytest.approx(p_value, abs=1e-9)


@pytest.mark.parametrize("values", [FEW, MORE, [1.0, 1.5], [1e6 + value for value in MORE]])
def test_intervals_and_tests_of_means_equal_those_of_scipy(values):
    for confidence in (0.5, 0.95, 0.9999):
        one, two = stats.ttest_1samp(values, 0.3), stats.ttest_ind(values, FEW, equal_var=False)
        for result, interval in (
            (one, t_interval(Sample.of(values), confidence=confidence)),
            (two, welch(Sample.of(values), Sample.of(FEW), confidence=confidence)),
        ):
            expected = tuple(result.confidence_interval(confidence))
            assert (interval.low, interval.high) == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert t_test(Sample.of(values), mean=0.3) == pytest.approx(one.pvalue, abs=1e-9)
    assert welch_test(Sample.of(values), Sample.of(FEW)) == pytest.approx(two.pvalue, abs=1e-9)


def test_newcombe_agrees_with_published_values():
    for first, second, expected in (  # Newcombe 1998, Stat. Med. 17, table II, method 10
        ((56, 70), (48, 80), (0.0524, 0.3339)),
        ((9, 10), (3, 10), (0.1705, 0.8090)),
        ((5, 56), (0, 29), (-0.0381, 0.1926)),
        ((0, 10), (0, 20), (-0.1611, 0.2775)),
        ((10, 10), (0, 20), (0.6791, 1.0)),
    ):
        interval = newcombe(first, second)
        assert (interval.low, interval.high) == pytest.approx(expected, abs=5e-5)
    assert math.isnan(newcombe((0, 0), (1, 2)).low)


def test_too_few_values_have_no_interval_and_constant_values_one_without_width():
    one, same = Sample.of([1.0]), Sample.of([2.0, 2.0])
    assert math.isnan(t_interval(one).low)
    assert math.isnan(welch(one, same).low)
    assert math.isnan(t_test(one))
    assert (t_interval(same).low, welch(same, same).high) == (2.0, 0.0)
    assert (t_test(same), t_test(same, mean=2.0), welch_test(same, same)) == (0.0, 1.0, 1.0)


def test_samples_of_buckets_add_up():
    total = Sample.of(MORE[:3]) + Sample.of([]) + Sample.of(MORE[3:4]) + Sample.of(MORE[4:])
    whole = Sample.of(MORE)
    assert total.count == whole.count
    assert (total.mean, total.variance) == pytest.approx((whole.mean, whole.variance))
    assert whole.variance == pytest.approx(stats.tvar(MORE))
    counts, values = Sample.of_counts(2, 5), Sample.of([0, 1, 0, 1, 0])
    assert (counts.mean, counts.variance) == pytest.approx((values.mean, values.variance))
    assert Sample.of([]) + Sample.of([]) == Sample.of([])
