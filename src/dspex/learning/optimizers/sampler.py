"""Which assignment to try next, for one objective or several."""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from dspex.language.variables import Space, samples
from dspex.language.variables.sampling import options
from dspex.learning.optimizers.candidates import Candidates, Pool
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
class Measured:
    """A value and its variance: how far it may be off for having been measured on few rows."""

    value: float
    variance: float = 0.0


class Sampler:
    """Suggests assignments of a space, learning from those measured; seeded.

    The first suggestions are spread evenly over the space, so that every option of a choice, and with it every branch
    of a conditional space, is tried. After them a Gaussian process for each objective says what to expect elsewhere:
    suggested is what has the largest expected improvement among random assignments and small changes to the best ones
    (J. Mockus, 1975); with several objectives, every second time in the first one alone, else in a random direction of
    the front (J. Knowles, "ParEGO", 2006). What was suggested and not measured yet counts as measured with the expected
    value. Every fourth suggestion is the most promising one of one branch of a conditional space, branch after branch:
    a branch whose first values did badly is looked into again.

    Nothing is stored outside of memory: a search that is resumed tells everything again.

    Raises:
        ConfigurationError: NumPy is not installed.
        VariableError: no assignment satisfies the constraints.
    """

    def __init__(self, space: Space, *, objectives: int = 1, seed: int = 0, startup: int = 8) -> None:
        """Begin; `startup` suggestions come before the first that is learned."""
        self._np = numpy()
        self._candidates = Candidates(space, seed=seed)
        self._startup = startup
        self._spread = samples(space, seed=seed, method="quasi")
        self._rng = random.Random(f"{seed}/sampler")  # noqa: S311  # explores, keeps no secret
        self._draws = self._np.random.default_rng(seed)
        self._models = [Surrogate(self._candidates.is_number, seed=seed) for _ in range(objectives)]
        self._given: list[Mapping[str, Any]] = []
        self._points = self._candidates.of([])
        self._keys: set[bytes] = set()
        self._measured: dict[int, Sequence[Measured] | None] = {}
        self._learned = self._tuned = self._searched = self._fitted = 0
        self._held: set[int] = set()
        self._blurs: list[float] = []
        self._means = self._np.zeros((objectives, 0))
        read = {name for variable in space.values() if variable.when is not None for name in variable.when.variables()}
        names = [name for name in self._candidates.names if name in read]
        self._branches = [self._candidates.index(name, option) for name in names for option in options(space[name])]

    def first(self, values: Mapping[str, Any]) -> None:
        """Suggest these values next."""
        self._given.append(values)

    def suggest(self) -> tuple[int, Mapping[str, Any]] | None:
        """Return (number, values of the active variables); hand the number back with the result.

        None where nothing is found that was not suggested before: the space is exhausted.
        """
        if self._given:
            values = self._given.pop(0)
        elif (found := self._spread_out() or self._promising()) is not None:
            values = found
        else:
            return None
        point = self._candidates.of([values])
        self._points = self._points.joined(point)
        self._keys.update(point.keys())
        return len(self._points) - 1, values

    def learn(self, results: Mapping[int, Sequence[Measured] | None]) -> None:
        """Take note, by number, of one value for each objective, more is better; None where there is none.

        What is said later of the same number replaces what was said before.
        """
        for number, found in results.items():
            fine = found is not None and all(math.isfinite(one.value) for one in found)
            self._measured[number] = found if fine else None
        self._learned += 1

    def expected(self, numbers: Sequence[int]) -> list[list[float]]:
        """Return, for each suggestion, what its objectives probably are, from all that was measured."""
        if not any(self._measured.values()):
            return [[0.0] * len(self._models) for _ in numbers]
        self._fit()
        return [[float(value) for value in self._means[:, number]] for number in numbers]

    def _fit(self) -> None:
        """Fit each objective; a failure counts as the worst value seen, a pending suggestion as the expected one.

        Weights and scales are chosen anew when an eighth more was learned, which depends on nothing but what was told.
        """
        if self._fitted != self._learned:
            self._fitted = self._learned
            self._fit_measured()
        np, codes = self._np, self._points.codes
        if not (pending := [number for number in range(len(codes)) if number not in self._held]):
            return
        self._held.update(pending)
        self._means = np.pad(self._means, ((0, 0), (0, len(codes) - self._means.shape[1])))
        for place, model in enumerate(self._models):
            self._means[place, pending] = model.predict(codes[pending])[0]
            model.believe(codes[pending], self._blurs[place])

    def _fit_measured(self) -> None:
        is_tuned = self._learned - self._tuned >= max(1, self._learned // TUNED_SHARE)
        self._tuned = self._learned if is_tuned else self._tuned
        known = sorted(self._measured)
        self._held, self._blurs = set(known), []
        self._means = self._np.zeros((len(self._models), len(self._points)))
        for place, model in enumerate(self._models):
            values, noise = self._targets([self._measured[number] for number in known], place)
            self._means[place, known] = model.fit(self._points.codes[known], values, noise, is_tuned=is_tuned)
            self._blurs.append(float(self._np.median(noise)))

    def _targets(self, found: Sequence[Sequence[Measured] | None], place: int) -> "tuple[Array, Array]":
        """Return values and variances; values far below the usual are raised to where they still are bad."""
        np = self._np
        real = np.array([one[place].value for one in found if one])
        low, top = float(np.quantile(real, 0.25)), float(real.max())
        floor = low - 2 * (top - low) if top > low else -math.inf
        values = [max(floor, one[place].value if one else float(real.min())) for one in found]
        noise = [one[place].variance if one else 0.0 for one in found]
        return np.array(values, dtype=float), np.array(noise, dtype=float)

    def _spread_out(self) -> Mapping[str, Any] | None:
        """Return a point of the even spread while it is time for it, as far as there is a new one."""
        if len(self._points) >= self._startup and any(self._measured.values()):
            return None
        tried = islice(self._spread, TRIES)
        return next((point for point in tried if self._candidates.of([point]).keys()[0] not in self._keys), None)

    def _promising(self) -> Mapping[str, Any] | None:
        if not any(self._measured.values()):
            return None
        self._fit()
        self._searched += 1
        worth, branch = self._worth(), self._branch()
        drawn = self._candidates.drawn(DRAWN).joined(self._mutants(self._parents(), scale=0.3))
        pool = self._new(drawn, branch)
        pool = self._ranked(pool if len(pool) else self._new(drawn), worth)
        for scale in SCALES:
            best = pool.pick(slice(PARENTS))
            pool = self._ranked(best.joined(self._new(self._mutants(best, scale=scale), branch, besides=best)), worth)
        made = (self._candidates.values(pool, row) for row in range(len(pool)))
        return next((values for values in made if values is not None), None)

    def _branch(self) -> tuple[int, float] | None:
        """Return the branch whose turn it is, a column and a code; mostly no branch has one."""
        turn, rest = divmod(self._searched, BRANCH_EVERY)
        return None if not self._branches or rest else self._branches[turn % len(self._branches)]

    def _new(self, pool: Pool, branch: tuple[int, float] | None = None, *, besides: Pool | None = None) -> Pool:
        """Return what was not suggested yet, each once; of one branch only where one is given."""
        found: dict[bytes, int] = {}
        known = self._keys.union(besides.keys() if besides is not None else ())
        fits = pool.codes[:, branch[0]] == branch[1] if branch is not None else [True] * len(pool)
        for row, (key, fit) in enumerate(zip(pool.keys(), fits, strict=True)):
            if fit and key not in known:
                found.setdefault(key, row)
        return pool.pick(list(found.values()))

    def _parents(self) -> Pool:
        """Return the best points so far, those of each objective in turn."""
        ranks = self._np.argsort(-self._means, axis=1, kind="stable")
        return self._points.pick(list(dict.fromkeys(ranks.T.ravel().tolist()))[:PARENTS])

    def _mutants(self, parents: Pool, *, scale: float) -> Pool:
        return self._candidates.changed(parents, count=MUTANTS, scale=scale)

    def _ranked(self, pool: Pool, worth: Any) -> Pool:  # noqa: ANN401
        return pool.pick(self._np.argsort(-worth(pool.codes), kind="stable")) if len(pool) else pool

    def _worth(self) -> Any:  # noqa: ANN401  # a function from coded points to an array
        """Return what says how much an assignment promises: the logarithm of its expected improvement."""
        np = self._np
        if len(self._models) == 1 or self._rng.random() < FOCUS:
            best = float(self._means[0].max())

            def single(points: "Array") -> "Array":
                mean, deviation = self._models[0].predict(points)
                worth: Array = _log_improvement(np, (mean - best) / deviation) + np.log(deviation)
                return worth

            return single
        weights = self._draws.dirichlet(np.ones(len(self._models)))
        seen = self._means
        top, bottom = seen.max(axis=1), seen.min(axis=1)
        width = np.maximum(top - bottom, 1e-12)
        noise = self._draws.standard_normal((len(self._models), 1, DRAWS))

        def joined(values: "Array") -> "Array":
            short = weights[:, None, None] * (top[:, None, None] - values) / width[:, None, None]
            made: Array = -(short.max(axis=0) + 0.05 * short.sum(axis=0))
            return made

        best_joined = float(joined(seen[:, :, None]).max())

        def several(points: "Array") -> "Array":
            found = [model.predict(points) for model in self._models]
            mean, deviation = (np.stack([one[part] for one in found]) for part in (0, 1))
            drawn = joined(mean[:, :, None] + deviation[:, :, None] * noise)
            gained = np.maximum(drawn - best_joined, 0.0).mean(axis=1)
            worth: Array = gained + 1e-6 * drawn.mean(axis=1)
            return worth

        return several


def _log_improvement(np: Any, z: "Array") -> "Array":  # noqa: ANN401
    """Return the logarithm of the expected improvement for a lead of `z` deviations; far below, its asymptote."""
    density = np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
    # the error function after Abramowitz and Stegun 7.1.26, good to 1.5e-7
    t = 1 / (1 + 0.3275911 * np.abs(z) / math.sqrt(2))
    series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    upper = 0.5 * series * np.exp(-(z**2) / 2)
    share = np.where(z > 0, 1 - upper, upper)
    near = np.log(np.maximum(density + z * share, 1e-300))
    far = -0.5 * z**2 - 2 * np.log(np.maximum(np.abs(z), 1.0)) - 0.5 * math.log(2 * math.pi)
    found: Array = np.where(z < -3, far, near)
    return found
