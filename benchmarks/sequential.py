"""Sequential tests: false positives under constant looks, coverage, power, and known values.

    python benchmarks/sequential.py [--quick] [--check]

1. A/A runs, looked at after every value: how often a confidence sequence excludes the truth at any
   look, beside a z-test at the same looks (from ten values in each group on). At most 5% is the
   goal of each sequence.
2. Coverage of the intervals for one look, on average over stated proportions and distributions.
3. Power and stopping time for effects of 2, 5 and 10 points, beside the rows that a test with one
   look needs for a power of 80%. The sequence is the narrowest at that number, and may go on to
   twice as many.
4. The same numbers as scipy, ville and gbstats, where they are installed, within 1e-9.

Runs are simulated in NumPy with seeds. A sequence of means is a boundary for each count, which
`mixture_boundary` of dspex gives; a sample of looks is recomputed with the public functions and has
to be decided in the same way.
"""

import argparse
import importlib.util
import json
import math
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from dspex.learning.statistics.sequences import mixture_boundary, mixture_precision
from dspex.statistics import (
    BoundedMean,
    BoundedMeanTest,
    Interval,
    Sample,
    bootstrap,
    difference_p_value,
    difference_sequence,
    mcnemar,
    mean_sequence,
    newcombe,
    proportion_power,
    proportion_sequence,
    sample_size,
    t_interval,
    welch,
    wilson,
)

Floats = NDArray[np.float64]
RESULTS = Path(__file__).resolve().parent / "results"
ALPHA, Z, TUNED, SMALLEST = 0.05, 1.959963984540054, 1000, 100
BLOCK = 250  # runs that are simulated at once


@dataclass(frozen=True)
class Row:
    """A line of the table; `is_met` is None without a goal."""

    work: str
    measured: str
    beside: str = ""
    goal: str = ""
    is_met: bool | None = None


Part = tuple[dict[str, object], list[Row]]
Draw = Callable[[np.random.Generator, tuple[int, int]], Floats]

DRAWS: dict[str, Draw] = {
    "half right": lambda rng, shape: (rng.random(shape) < 0.5).astype(float),
    "one in ten right": lambda rng, shape: (rng.random(shape) < 0.1).astype(float),
    "normal": lambda rng, shape: rng.normal(3.0, 2.0, shape),
    "skewed (log-normal)": lambda rng, shape: rng.lognormal(0.0, 1.0, shape),
}


def blocks(runs: int) -> Iterator[int]:
    """Yield the sizes of blocks of runs, so that memory stays small."""
    for start in range(0, runs, BLOCK):
        yield min(BLOCK, runs - start)


def running(values: Floats) -> tuple[Floats, Floats]:
    """Return mean and variance after each value of each run."""
    counts = np.arange(1, values.shape[1] + 1)
    means = np.cumsum(values, axis=1) / counts
    squares = np.cumsum(values * values, axis=1) - counts * means * means
    return means, np.maximum(squares, 0.0) / np.maximum(counts - 1, 1)


def boundaries(most: int, best_at: int = TUNED) -> Floats:
    """Return what the difference has to exceed in standard errors, from `SMALLEST` pairs on."""
    rho = mixture_precision(best_at, alpha=ALPHA)
    pairs = range(SMALLEST, most + 1)
    return np.array([mixture_boundary(2 * n, rho, alpha=ALPHA) / math.sqrt(2 * n) for n in pairs])


def two_groups(
    rng: np.random.Generator, first: Draw, second: Draw, runs: int, looks: int
) -> tuple[Floats, Floats]:
    """Return the differences and their standard errors after each pair of values."""
    (mean, variance), (reference, spread) = (
        running(draw(rng, (runs, looks))) for draw in (first, second)
    )
    counts = np.arange(1, looks + 1)
    return mean - reference, np.sqrt((variance + spread) / counts)


def spot_check(rng: np.random.Generator, draw: Draw, limit: Floats) -> int:
    """Return on how many of 200 looks the public function decides in another way."""
    looks, wrong = SMALLEST - 1 + len(limit), 0
    for _ in range(200):
        count = int(rng.integers(SMALLEST, looks + 1))
        first, second = draw(rng, (1, count)), draw(rng, (1, count))
        (mean, variance), (reference, spread) = running(first), running(second)
        error = math.sqrt((variance[0, -1] + spread[0, -1]) / count)
        interval = difference_sequence(Sample.of(first[0]), Sample.of(second[0]), best_at=TUNED)
        is_beyond = abs(mean[0, -1] - reference[0, -1]) > error * limit[count - SMALLEST]
        wrong += bool(is_beyond) == bool(interval.low <= 0 <= interval.high)
    return wrong


def false_positives_of_means(runs: int, looks: int) -> Part:
    limit, result, rows = boundaries(looks), {}, []
    for name, draw in DRAWS.items():
        rng = np.random.default_rng(1)
        sequence = peeks = 0
        for size in blocks(runs):
            gap, error = two_groups(rng, draw, draw, size, looks)
            late = slice(SMALLEST - 1, None)
            sequence += int((np.abs(gap[:, late]) > error[:, late] * limit).any(axis=1).sum())
            late = slice(9, None)
            peeks += int((np.abs(gap[:, late]) > Z * error[:, late]).any(axis=1).sum())
        wrong = spot_check(rng, draw, limit)
        result[name] = {"sequence": sequence / runs, "z-test": peeks / runs, "spot check": wrong}
        rows.append(
            Row(
                f"A/A, difference of means, {name}, {looks} looks",
                f"{sequence / runs:.2%}",
                f"z-test {peeks / runs:.1%}",
                "at most 5%, spot checks agree",
                sequence / runs <= 0.05 and not wrong,
            )
        )
    return result, rows


def false_positives_of_proportions(runs: int, looks: int) -> Part:
    rng, result, rows = np.random.default_rng(2), {}, []
    lows = np.zeros((looks + 1, looks + 1))
    for total in range(1, looks + 1):
        for successes in range(1, total + 1):
            lows[total, successes] = proportion_sequence(successes, total, alpha=ALPHA / 2).low
    counts = np.arange(1, looks + 1)
    for share in (0.5, 0.1, 0.01):
        inside = np.array([proportion_limits(share, total) for total in range(1, looks + 1)]).T
        one_arm = two_arms = peeks = 0
        for size in blocks(runs):
            first, second = (np.cumsum(rng.random((size, looks)) < share, axis=1) for _ in range(2))
            one_arm += int(((first < inside[0]) | (first > inside[1])).any(axis=1).sum())
            low, high = lows[counts, first], 1 - lows[counts, counts - first]
            other_low, other_high = lows[counts, second], 1 - lows[counts, counts - second]
            two_arms += int(((low > other_high) | (high < other_low)).any(axis=1).sum())
            p, q = first / counts, second / counts
            error = np.sqrt((p * (1 - p) + q * (1 - q)) / counts)
            peeks += int((np.abs(p - q)[:, 9:] > Z * error[:, 9:]).any(axis=1).sum())
        result[f"{share}"] = {"one": one_arm / runs, "two": two_arms / runs, "z": peeks / runs}
        for name, hits, beside in (
            ("a proportion", one_arm, ""),
            ("difference of proportions, exact", two_arms, f"z-test {peeks / runs:.1%}"),
        ):
            rows.append(
                Row(
                    f"A/A, {name}, {share:g}, {looks} looks",
                    f"{hits / runs:.2%}",
                    beside,
                    "at most 5%",
                    hits / runs <= 0.05,
                )
            )
    return result, rows


def proportion_limits(share: float, total: int) -> tuple[int, int]:
    """Return the fewest and the most successes whose interval includes `share`."""
    middle = round(share * total)
    low = high = middle
    while low > 0 and proportion_sequence(low - 1, total, alpha=ALPHA).high >= share:
        low -= 1
    while high < total and proportion_sequence(high + 1, total, alpha=ALPHA).low <= share:
        high += 1
    return low, high


def false_positives_of_bets(runs: int, looks: int) -> Part:
    """Bets on bounded values: independent ones, and the rows of a dataset in random order."""
    rng, result, rows = random.Random(3), {}, []
    paired = [-1.0] * 10 + [0.0] * 80 + [1.0] * 10
    works = {
        "bounded mean, uniform": (lambda: rng.random(), 0.5, 0.0, None),
        "bounded mean, paired scores": (lambda: rng.choice(paired), 0.0, -1.0, None),
        "rows without replacement": (None, 0.0, -1.0, len(paired)),
    }
    for name, (draw, mean, low, population) in works.items():
        hits = peeks = 0
        for _ in range(runs):
            values = (
                rng.sample(paired, len(paired)) if draw is None else [draw() for _ in range(looks)]
            )
            test = BoundedMeanTest(mean, low=low, population=population)
            for value in values:
                test.add(value)
            hits += test.is_refuted
            means, variances = running(np.array([values]))
            error = np.sqrt(variances[0, 9:-1] / np.arange(10, len(values)))
            peeks += bool((np.abs(means[0, 9:-1] - mean) > Z * error).any())
        result[name] = {"sequence": hits / runs, "z-test": peeks / runs}
        rows.append(
            Row(
                f"A/A, {name}, {population or looks} looks",
                f"{hits / runs:.2%}",
                f"z-test {peeks / runs:.1%}",
                "at most 5%",
                hits / runs <= 0.05,
            )
        )
    return result, rows


def coverage(runs: int) -> Part:
    rng = random.Random(4)
    shares, sizes = (0.05, 0.2, 0.5, 0.8), (20, 60, 200)
    hits: dict[str, list[bool]] = {}

    def note(name: str, interval: Interval, truth: float) -> None:
        hits.setdefault(name, []).append(interval.low <= truth <= interval.high)

    for _ in range(runs):
        for count in sizes:
            for share in shares:
                successes, others = (
                    sum(rng.random() < p for _ in range(count)) for p in (share, 0.5)
                )
                note("Wilson", wilson(successes, count), share)
                note("Newcombe", newcombe((successes, count), (others, count)), share - 0.5)
            normal = [rng.gauss(1.0, 2.0) for _ in range(count)]
            wide = [rng.gauss(0.0, 5.0) for _ in range(count // 2)]
            note("Student", t_interval(Sample.of(normal)), 1.0)
            note("Welch", welch(Sample.of(normal), Sample.of(wide)), 1.0)
    for _ in range(runs // 4):
        count = rng.choice(sizes[1:])
        note("bootstrap", bootstrap([rng.random() ** 2 for _ in range(count)], seed=_), 1 / 3)
        bounded = BoundedMean()
        bounded.add(*(rng.random() ** 2 for _ in range(count)))
        note("BoundedMean at one look", bounded.interval(), 1 / 3)
    goals = {"bootstrap": 0.92}
    result: dict[str, object] = {name: fmean(marks) for name, marks in hits.items()}
    rows = [
        Row(
            f"coverage of 95%, {name}",
            f"{fmean(marks):.1%}",
            goal=f"at least {goals.get(name, 0.94):.0%}",
            is_met=fmean(marks) >= goals.get(name, 0.94),
        )
        for name, marks in hits.items()
    ]
    return result, rows


def power(runs: int) -> Part:
    """Two groups that are right half of the time, and more often by an effect."""
    result, rows = {}, []
    for points in (2, 5, 10):
        effect = points / 100
        fixed = sample_size(lambda count, p=0.5 + effect: proportion_power(0.5, p, count))
        looks = 2 * fixed
        rng, limit = np.random.default_rng(5), boundaries(looks, 2 * fixed)
        stops: list[int] = []
        for size in blocks(runs):
            gap, error = two_groups(
                rng,
                lambda rng, shape: (rng.random(shape) < 0.5 + effect).astype(float),  # noqa: B023
                DRAWS["half right"],
                size,
                looks,
            )
            late = slice(SMALLEST - 1, None)
            beyond = gap[:, late] > error[:, late] * limit
            stops += [int(row.argmax()) + SMALLEST for row in beyond if row.any()]
        share, middle = len(stops) / runs, float(np.median(stops))
        mean = (sum(stops) + looks * (runs - len(stops))) / runs
        result[f"{points} points"] = {
            "one look, rows": fixed, "most rows": looks, "power": share, "median stop": middle,
            "mean rows": mean,
        }  # fmt: skip
        rows.append(
            Row(
                f"{points} points, at most {looks} rows in each group",
                f"power {share:.1%}, half stop by {middle:.0f}, {mean:.0f} rows on average",
                f"one look: {fixed} rows for 80%",
                "at least 80%",
                share >= 0.8,
            )
        )
    return result, rows


def equal_to_scipy() -> float:
    rng, worst = random.Random(6), 0.0
    for _ in range(200):
        total = rng.randint(1, 500)
        successes, confidence = rng.randint(0, total), rng.uniform(0.5, 0.999)
        test = stats.binomtest(successes, total)
        interval = wilson(successes, total, confidence=confidence)
        expected = test.proportion_ci(confidence, "wilson")
        worst = max(worst, abs(interval.low - expected.low), abs(interval.high - expected.high))
        worst = max(worst, abs(mcnemar(successes, total - successes) - test.pvalue))
        values = [rng.gauss(0, 1) for _ in range(rng.randint(2, 80))]
        others = [rng.gauss(0.3, 2) for _ in range(rng.randint(2, 80))]
        result = stats.ttest_ind(values, others, equal_var=False).confidence_interval(confidence)
        interval = welch(Sample.of(values), Sample.of(others), confidence=confidence)
        worst = max(worst, abs(interval.low - result.low), abs(interval.high - result.high))
    return worst


def equal_to_ville() -> float:
    import ville

    rng, worst = np.random.default_rng(7), 0.0
    values, shares = rng.normal(2, 3, 600), rng.beta(2, 5, 600)
    rights = (rng.random(600) < 0.3).astype(float)
    means = ville.AsymptoticCS(alpha=ALPHA, t_opt=500)
    means.rho_ = mixture_precision(500, alpha=ALPHA)
    means.fit(values)
    proportions = ville.BernoulliCS(alpha=ALPHA, intersect=False).fit(rights)
    for count in range(100, 601, 50):
        for interval, expected in (
            (mean_sequence(Sample.of(values[:count])), means),
            (proportion_sequence(int(rights[:count].sum()), count), proportions),
        ):
            worst = max(worst, abs(interval.low - expected.lower_[count - 1]))
            worst = max(worst, abs(interval.high - expected.upper_[count - 1]))
    for side, alternative in (("above", "greater"), ("below", "less")):
        test, peer = (
            BoundedMeanTest(0.3, side=side),
            ville.BettingTest(0.3, alternative=alternative),
        )
        for number, evidence in enumerate(peer.fit(shares).log_e_values_):
            test.add(float(shares[number]))
            worst = max(worst, abs(test.log_evidence - evidence))
    return worst


def equal_to_gbstats() -> float:
    from gbstats.frequentist.tests import SequentialConfig, SequentialTwoSidedTTest
    from gbstats.models.statistics import SampleMeanStatistic

    rng, worst = np.random.default_rng(8), 0.0
    for _ in range(50):
        sides = [rng.normal(1, 2, 300), rng.normal(1.3, 1, 400)]
        peers = [
            SampleMeanStatistic(n=len(side), sum=side.sum(), sum_squares=(side * side).sum())
            for side in sides
        ]
        config = SequentialConfig(difference_type="absolute", sequential_tuning_parameter=TUNED)
        expected = SequentialTwoSidedTTest(*peers, config).compute_result()
        first, second = Sample.of(sides[1]), Sample.of(sides[0])
        interval = difference_sequence(first, second, best_at=TUNED)
        worst = max(worst, abs(interval.low - expected.ci[0]), abs(interval.high - expected.ci[1]))
        p_value = difference_p_value(first, second, best_at=TUNED)
        worst = max(worst, abs(p_value - expected.p_value))
    return worst


def oracles() -> Part:
    peers = {"scipy": equal_to_scipy, "ville": equal_to_ville, "gbstats": equal_to_gbstats}
    result: dict[str, object] = {}
    rows = []
    for name, difference in peers.items():
        if importlib.util.find_spec(name) is None:
            result[name] = "not installed"
            rows.append(Row(f"numbers of {name}", f"skipped: {name} is not installed"))
            continue
        result[name] = worst = float(difference())
        rows.append(
            Row(f"numbers of {name}", f"{worst:.1e} at most", "", "at most 1e-9", worst <= 1e-9)
        )
    return result, rows


def show(rows: list[Row]) -> None:
    marks = {True: "met", False: "MISSED", None: ""}
    table = [("work", "dspex", "beside it", "goal", "")]
    table += [(row.work, row.measured, row.beside, row.goal, marks[row.is_met]) for row in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        print("  ".join(cells).rstrip())


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer runs; under 20 seconds")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a goal is missed")
    options = parser.parse_args()
    runs = 1000 if options.quick else 10_000
    parts = {
        "means": false_positives_of_means(runs, 500 if options.quick else 2000),
        "proportions": false_positives_of_proportions(runs, 100 if options.quick else 400),
        "bets": false_positives_of_bets(runs // 4 if options.quick else runs, 200),
        "coverage": coverage(200 if options.quick else 2000),
        "power": power(200 if options.quick else 1000),
        "oracles": oracles(),
    }
    rows = [row for _, part in parts.values() for row in part]
    show(rows)
    RESULTS.mkdir(exist_ok=True)
    result = {"quick": options.quick, "runs": runs} | {
        name: part for name, (part, _) in parts.items()
    }
    (RESULTS / "sequential.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return int(options.check and any(row.is_met is False for row in rows))


if __name__ == "__main__":
    sys.exit(main())
