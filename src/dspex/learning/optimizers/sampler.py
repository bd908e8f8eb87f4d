"""Chooses the next assignment to try, for one or several objectives."""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from dspex.language.variables import Space, samples
from dspex.language.variables.sampling import options
from dspex.learning.optimizers.candidates import AssignmentGenerator, AssignmentTable
from dspex.learning.optimizers.surrogate import Surrogate, numpy

if TYPE_CHECKING:
    from dspex.learning.optimizers.surrogate import Array

DRAWN = 150
TRIES = 20
PARENTS = 5
MUTANTS = 24
SCALES = (0.1, 0.03, 0.01)
DRAWS = 64
TUNED_SHARE = 8
BRANCH_EVERY = 4
FOCUS = 0.5


@dataclass(frozen=True, slots=True)
class Measurement:
    """A value and its variance, which is larger the fewer rows it was measured on."""

    value: float
    variance: float = 0.0


class Sampler:
    """Suggests assignments of a space and learns from their measurements; seeded.

    The first suggestions are spread evenly over the space, so that every option of a choice, and
    with it every branch of a conditional space, is tried. Later ones maximize the expected
    improvement (J. Mockus, 1975) under a Gaussian process per objective, among random assignments
    and small mutations of the best. With several objectives, every second suggestion uses the first
    objective alone, the others a random direction of the front (J. Knowles, "ParEGO", 2006). A
    pending suggestion counts as measured with its expected value. Every fourth suggestion is the
    most promising of one branch of a conditional space, in turn, so that a branch with bad first
    values is revisited.

    All state is in memory: a resumed search replays its results.

    Raises:
        ConfigurationError: NumPy is not installed.
        VariableError: no assignment satisfies the constraints.
    """

    def __init__(
        self, space: Space, *, objectives: int = 1, seed: int = 0, startup: int = 8
    ) -> None:
        """Begin; the first `startup` suggestions do not depend on measurements."""
        self._np = numpy()
        self._candidates = AssignmentGenerator(space, seed=seed)
        self._startup = startup
        self._quasi_random = samples(space, seed=seed, method="quasi")
        self._rng = random.Random(f"{seed}/sampler")  # explores, keeps no secret
        self._draws = self._np.random.default_rng(seed)
        self._models = [Surrogate(self._candidates.is_number, seed=seed) for _ in range(objectives)]
        self._queue: list[Mapping[str, Any]] = []
        self._points = self._candidates.encode([])
        self._keys: set[bytes] = set()
        self._measurements: dict[int, Sequence[Measurement] | None] = {}
        self._learn_count = self._tuned_at = self._search_count = self._fitted_at = 0
        self._conditioned: set[int] = set()
        self._typical_noise: list[float] = []
        self._means = self._np.zeros((objectives, 0))
        condition_names = {
            name
            for variable in space.values()
            if variable.when is not None
            for name in variable.when.variables()
        }
        names = [name for name in self._candidates.names if name in condition_names]
        self._branches = [
            self._candidates.index(name, option)
            for name in names
            for option in options(space[name])
        ]

    def first(self, values: Mapping[str, Any]) -> None:
        """Suggest these values next."""
        self._queue.append(values)

    def suggest(self) -> tuple[int, Mapping[str, Any]] | None:
        """Return (number, values of the active variables); hand the number back with the result.

        Returns None if every assignment was suggested before: the space is exhausted.
        """
        if self._queue:
            values = self._queue.pop(0)
        elif (suggestion := self._next_spread_point() or self._most_promising()) is not None:
            values = suggestion
        else:
            return None
        point = self._candidates.encode([values])
        self._points = self._points.concat(point)
        self._keys.update(point.keys())
        return len(self._points) - 1, values

    def learn(self, results: Mapping[int, Sequence[Measurement] | None]) -> None:
        """Record the measurements of each suggestion, one per objective; None is a failure.

        More is better.

        A later result for the same number replaces the earlier one.
        """
        for number, measurements in results.items():
            fine = measurements is not None and all(
                math.isfinite(measurement.value) for measurement in measurements
            )
            self._measurements[number] = measurements if fine else None
        self._learn_count += 1

    def expected(self, numbers: Sequence[int]) -> list[list[float]]:
        """Return the expected objectives of each suggestion, given all measurements."""
        if not any(self._measurements.values()):
            return [[0.0] * len(self._models) for _ in numbers]
        self._fit()
        return [[float(value) for value in self._means[:, number]] for number in numbers]

    def _fit(self) -> None:
        """Fit each objective; a failure counts as the worst value so far.

        A suggestion without a result counts with its expected value.

        Weights and scales are tuned again after one eighth more results, so tuning depends on the
        results alone.
        """
        if self._fitted_at != self._learn_count:
            self._fitted_at = self._learn_count
            self._fit_measurements()
        np, codes = self._np, self._points.codes
        if not (
            pending := [number for number in range(len(codes)) if number not in self._conditioned]
        ):
            return
        self._conditioned.update(pending)
        self._means = np.pad(self._means, ((0, 0), (0, len(codes) - self._means.shape[1])))
        for place, model in enumerate(self._models):
            self._means[place, pending] = model.predict(codes[pending])[0]
            model.add_pending(codes[pending], self._typical_noise[place])

    def _fit_measurements(self) -> None:
        is_tuned = self._learn_count - self._tuned_at >= max(1, self._learn_count // TUNED_SHARE)
        self._tuned_at = self._learn_count if is_tuned else self._tuned_at
        numbers = sorted(self._measurements)
        self._conditioned, self._typical_noise = set(numbers), []
        self._means = self._np.zeros((len(self._models), len(self._points)))
        for place, model in enumerate(self._models):
            values, noise = self._targets([self._measurements[number] for number in numbers], place)
            self._means[place, numbers] = model.fit(
                self._points.codes[numbers], values, noise, is_tuned=is_tuned
            )
            self._typical_noise.append(float(self._np.median(noise)))

    def _targets(
        self, measurements: Sequence[Sequence[Measurement] | None], place: int
    ) -> "tuple[Array, Array]":
        """Return values and variances; outliers far below are raised to a floor.

        The floor is still worse than the rest.
        """
        np = self._np
        real = np.array([measurement[place].value for measurement in measurements if measurement])
        low, top = float(np.quantile(real, 0.25)), float(real.max())
        floor = low - 2 * (top - low) if top > low else -math.inf
        values = [
            max(floor, measurement[place].value if measurement else float(real.min()))
            for measurement in measurements
        ]
        noise = [
            measurement[place].variance if measurement else 0.0 for measurement in measurements
        ]
        return np.array(values, dtype=float), np.array(noise, dtype=float)

    def _next_spread_point(self) -> Mapping[str, Any] | None:
        """Return a new point of the even spread during startup, or None."""
        if len(self._points) >= self._startup and any(self._measurements.values()):
            return None
        points = islice(self._quasi_random, TRIES)
        return next(
            (
                point
                for point in points
                if self._candidates.encode([point]).keys()[0] not in self._keys
            ),
            None,
        )

    def _most_promising(self) -> Mapping[str, Any] | None:
        if not any(self._measurements.values()):
            return None
        self._fit()
        self._search_count += 1
        worth, branch = self._acquisition(), self._branch()
        candidates = self._candidates.draw(DRAWN).concat(self._mutants(self._parents(), scale=0.3))
        pool = self._unseen(candidates, branch)
        pool = self._rank(pool if len(pool) else self._unseen(candidates), worth)
        for scale in SCALES:
            best = pool.pick(slice(PARENTS))
            pool = self._rank(
                best.concat(self._unseen(self._mutants(best, scale=scale), branch, besides=best)),
                worth,
            )
        assignments = (self._candidates.values(pool, row) for row in range(len(pool)))
        return next((values for values in assignments if values is not None), None)

    def _branch(self) -> tuple[int, float] | None:
        """Return the branch (column, code) whose turn it is; usually None."""
        turn, rest = divmod(self._search_count, BRANCH_EVERY)
        return None if not self._branches or rest else self._branches[turn % len(self._branches)]

    def _unseen(
        self,
        pool: AssignmentTable,
        branch: tuple[int, float] | None = None,
        *,
        besides: AssignmentTable | None = None,
    ) -> AssignmentTable:
        """Return assignments that were not suggested yet, without duplicates.

        Only those of `branch`, if it is given.
        """
        rows: dict[bytes, int] = {}
        earlier = self._keys.union(besides.keys() if besides is not None else ())
        fits = pool.codes[:, branch[0]] == branch[1] if branch is not None else [True] * len(pool)
        for row, (key, fit) in enumerate(zip(pool.keys(), fits, strict=True)):
            if fit and key not in earlier:
                rows.setdefault(key, row)
        return pool.pick(list(rows.values()))

    def _parents(self) -> AssignmentTable:
        """Return the best points so far, alternating between the objectives."""
        ranks = self._np.argsort(-self._means, axis=1, kind="stable")
        return self._points.pick(list(dict.fromkeys(ranks.T.ravel().tolist()))[:PARENTS])

    def _mutants(self, parents: AssignmentTable, *, scale: float) -> AssignmentTable:
        return self._candidates.mutate(parents, count=MUTANTS, scale=scale)

    def _rank(self, pool: AssignmentTable, worth: Any) -> AssignmentTable:
        return pool.pick(self._np.argsort(-worth(pool.codes), kind="stable")) if len(pool) else pool

    def _acquisition(self) -> Any:
        """Return the acquisition function of coded points: the log of the expected improvement."""
        np = self._np
        if len(self._models) == 1 or self._rng.random() < FOCUS:
            best = float(self._means[0].max())

            def single(points: "Array") -> "Array":
                mean, deviation = self._models[0].predict(points)
                worth: Array = _log_improvement(np, (mean - best) / deviation) + np.log(deviation)
                return worth

            return single
        weights = self._draws.dirichlet(np.ones(len(self._models)))
        means = self._means
        top, bottom = means.max(axis=1), means.min(axis=1)
        width = np.maximum(top - bottom, 1e-12)
        noise = self._draws.standard_normal((len(self._models), 1, DRAWS))

        def scalarize(values: "Array") -> "Array":
            short = weights[:, None, None] * (top[:, None, None] - values) / width[:, None, None]
            scores: Array = -(short.max(axis=0) + 0.05 * short.sum(axis=0))
            return scores

        best_scalar = float(scalarize(means[:, :, None]).max())

        def several(points: "Array") -> "Array":
            predictions = [model.predict(points) for model in self._models]
            mean, deviation = (
                np.stack([prediction[part] for prediction in predictions]) for part in (0, 1)
            )
            draws = scalarize(mean[:, :, None] + deviation[:, :, None] * noise)
            gained = np.maximum(draws - best_scalar, 0.0).mean(axis=1)
            worth: Array = gained + 1e-6 * draws.mean(axis=1)
            return worth

        return several


def _log_improvement(np: Any, z: "Array") -> "Array":
    """Return the log of the expected improvement for a lead of `z` deviations.

    Far below, its asymptote.
    """
    density = np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
    # the error function after Abramowitz and Stegun 7.1.26, good to 1.5e-7
    t = 1 / (1 + 0.3275911 * np.abs(z) / math.sqrt(2))
    series = t * (
        0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429)))
    )
    upper = 0.5 * series * np.exp(-(z**2) / 2)
    share = np.where(z > 0, 1 - upper, upper)
    near = np.log(np.maximum(density + z * share, 1e-300))
    far = -0.5 * z**2 - 2 * np.log(np.maximum(np.abs(z), 1.0)) - 0.5 * math.log(2 * math.pi)
    improvement: Array = np.where(z < -3, far, near)
    return improvement
