import math
import statistics

import pytest
from scipy import stats

from dspex.errors import DefinitionError
from dspex.statistics import (
    Sample,
    cliff_delta,
    cohen_h,
    discordance_power,
    hedges_g,
    holm,
    mean_power,
    paired_d,
    proportion_power,
    sample_size,
)

FIRST, SECOND = [3.0, 4.5, 5.0, 2.5, 6.0], [2.0, 3.5, 2.5, 1.0]


def test_holm_agrees_with_its_definition_and_keeps_the_order():
    # the same as p.adjust of R
    assert holm([0.01, 0.02, 0.03, 0.04, 0.05]) == pytest.approx([0.05, 0.08, 0.09, 0.09, 0.09])
    assert holm([0.9, 0.001, 0.5]) == pytest.approx([1.0, 0.003, 1.0])
    assert holm([]) == []
    with pytest.raises(DefinitionError, match=r"from 0 to 1, not 1\.5"):
        holm([0.5, 1.5])


def test_effect_sizes_follow_their_definitions():
    pooled = math.sqrt((4 * stats.tvar(FIRST) + 3 * stats.tvar(SECOND)) / 7)
    correction = math.gamma(3.5) / (math.sqrt(3.5) * math.gamma(3))
    expected = (statistics.fmean(FIRST) - statistics.fmean(SECOND)) / pooled * correction
    assert hedges_g(Sample.of(FIRST), Sample.of(SECOND)) == pytest.approx(expected, abs=1e-12)
    assert paired_d(Sample.of(FIRST)) == pytest.approx(4.2 / statistics.stdev(FIRST))
    assert cohen_h(0.75, 0.25) == pytest.approx(math.pi / 3)
    assert cohen_h(1.0, 0.0) == pytest.approx(math.pi)
    u = stats.mannwhitneyu(FIRST, SECOND).statistic
    assert cliff_delta(FIRST, SECOND) == pytest.approx(2 * u / 20 - 1)


def test_effect_sizes_that_do_not_exist_are_nan():
    same = Sample.of([1.0, 1.0])
    assert all(map(math.isnan, (hedges_g(same, same), paired_d(same), cliff_delta([], [1.0]))))
    with pytest.raises(DefinitionError, match="a proportion"):
        cohen_h(1.2, 0.5)


def test_power_of_means_is_that_of_the_normal_test():
    for count, second in ((20, None), (20, 60)):
        error = 2 * math.sqrt(1 / count + (0 if second is None else 1 / second))
        reach = stats.norm.ppf(0.995)
        expected = stats.norm.sf(reach - 0.9 / error) + stats.norm.cdf(-reach - 0.9 / error)
        power = mean_power(0.9, 2.0, count, second=second, alpha=0.01)
        assert power == pytest.approx(expected, abs=1e-12)
    assert mean_power(0.0, 1.0, 50) == pytest.approx(0.05)


def test_sample_sizes_agree_with_published_values():
    # the example of power.prop.test in R has n = 76.7
    assert sample_size(lambda rows: proportion_power(0.5, 0.75, rows), power=0.9) == 77
    # and its example with n = 50 has a power of 0.740
    assert proportion_power(0.5, 0.75, 50) == pytest.approx(0.740, abs=5e-4)
    # Connor's formula: the square of 1.96 sqrt(0.3) + 0.8416 sqrt(0.3 - 0.01), over 0.01
    assert sample_size(lambda pairs: discordance_power(0.1, 0.3, pairs)) == 234


def test_sample_size_is_the_smallest_with_the_power():
    size = sample_size(lambda rows: mean_power(0.02, 0.5, rows), power=0.95)
    assert mean_power(0.02, 0.5, size) >= 0.95 > mean_power(0.02, 0.5, size - 1)
    assert sample_size(lambda pairs: discordance_power(1.0, 1.0, pairs)) == 4


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mean_power(1, 0, 5), "deviation must be above 0"),
        (lambda: mean_power(1, 1, 0), "at least one row"),
        (lambda: proportion_power(0, 0.5, 9), "a proportion must be between 0 and 1"),
        (lambda: proportion_power(0.4, 0.5, 9, alpha=5), "alpha must be between 0 and 1"),
        (lambda: discordance_power(0.3, 0.2, 9), "changed must be above 0 and from 0.3"),
        (lambda: sample_size(lambda rows: 0.05), "no count below 1e\\+12"),
        (lambda: sample_size(lambda rows: 1.0, power=80), "power must be between 0 and 1"),
    ],
)
def test_what_has_no_power_is_refused(call, message):
    with pytest.raises(DefinitionError, match=message):
        call()
