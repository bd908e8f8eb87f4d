"""Statistics: intervals, tests, effect sizes, sample sizes, and looks at data as they come in.

`wilson`, `t_interval`, `welch` and their tests are for one look. Sequences (`mean_sequence`,
`difference_sequence`, `proportion_sequence`, `BoundedMean`) hold at every look.
"""

from dspex.learning.statistics import (
    BoundedMean,
    BoundedMeanTest,
    Interval,
    Sample,
    bootstrap,
    difference_sequence,
    holm,
    mcnemar,
    mean_interval,
    mean_sequence,
    proportion_difference_sequence,
    proportion_sequence,
    sign_flip,
    t_interval,
    welch,
    wilson,
)
from dspex.learning.statistics.effects import cliff_delta, cohen_h, hedges_g, paired_d
from dspex.learning.statistics.intervals import newcombe
from dspex.learning.statistics.kappa import kappa
from dspex.learning.statistics.mean_tests import t_test, welch_test
from dspex.learning.statistics.power import (
    discordance_power,
    mean_power,
    proportion_power,
    sample_size,
)
from dspex.learning.statistics.sequences import difference_p_value

__all__ = [
    "BoundedMean",
    "BoundedMeanTest",
    "Interval",
    "Sample",
    "bootstrap",
    "cliff_delta",
    "cohen_h",
    "difference_p_value",
    "difference_sequence",
    "discordance_power",
    "hedges_g",
    "holm",
    "kappa",
    "mcnemar",
    "mean_interval",
    "mean_power",
    "mean_sequence",
    "newcombe",
    "paired_d",
    "proportion_difference_sequence",
    "proportion_power",
    "proportion_sequence",
    "sample_size",
    "sign_flip",
    "t_interval",
    "t_test",
    "welch",
    "welch_test",
    "wilson",
]
