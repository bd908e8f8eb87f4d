"""Which assignment to try next, for one objective or several."""

import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from dspex.errors import VariableError
from dspex.language.variables import Space, samples
from dspex.language.variables.sampling import assignment_at, options, place_of
from dspex.learning.optimizers.surrogate import Surrogate, numpy

if TYPE_CHECKING:
    from dspex.learning.optimizers.surrogate import Array

DRAWN = 150
TRIES = 20
PARENTS = 5
MUTANTS = 24
SCALES = (0.1, 0.03, 0.01)
DRAWS = 64
TUNED_EVERY = 4
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
        self._space = space
        self._names = [name for name in space.order if space[name].is_searchable]
        self._startup = startup
        self._spread = samples(space, seed=seed, method="quasi")
        self._random = samples(space, seed=seed + 1)
        self._rng = random.Random(f"{seed}/sampler")  # noqa: S311  # explores, keeps no secret
        self._draws = self._np.random.default_rng(seed)
        self._models = [Surrogate([not options(space[n]) for n in self._names], seed=seed) for _ in range(objectives)]
        self._given: list[Mapping[str, Any]] = []
        self._points: list[Mapping[str, Any]] = []
        self._codes: list[list[float]] = []
        self._keys: set[str] = set()
        self._places = {name: {_key(it): float(n) for n, it in enumerate(options(space[name]))} for name in self._names}
        self._measured: dict[int, Sequence[Measured] | None] = {}
        self._learned = self._tuned = self._searched = 0
        self._fitted = (0, 0)
        read = {name for variable in space.values() if variable.when is not None for name in variable.when.variables()}
        self._branches = [(name, option) for name in self._names if name in read for option in options(space[name])]

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
        self._points.append(values)
        self._keys.add(_key(values))
        self._codes.append(self._code(values))
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
        coded = self._known(numbers)
        means = [model.predict(coded)[0] for model in self._models]
        return [[float(mean[row]) for mean in means] for row in range(len(numbers))]

    def _fit(self) -> None:
        """Fit each objective; a failure counts as the worst value seen, a pending suggestion as the expected one."""
        known = [number for number in range(len(self._points)) if number in self._measured]
        pending = [number for number in range(len(self._points)) if number not in self._measured]
        if (self._learned, len(self._points)) == self._fitted:
            return
        self._fitted = self._learned, len(self._points)
        is_tuned = self._learned - self._tuned >= max(1, min(TUNED_EVERY, self._learned // 8))
        self._tuned = self._learned if is_tuned else self._tuned
        coded = self._known(known)
        for place, model in enumerate(self._models):
            values, noise = self._targets([self._measured[number] for number in known], place)
            model.fit(coded, values, noise, is_tuned=is_tuned)
            if pending:
                others = self._known(pending)
                believed = model.predict(others)[0]
                stack = self._np.concatenate
                blur = self._np.full(len(pending), self._np.median(noise))
                model.fit(stack([coded, others]), stack([values, believed]), stack([noise, blur]), is_tuned=False)

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
        return next((point for point in islice(self._spread, TRIES) if _key(point) not in self._keys), None)

    def _promising(self) -> Mapping[str, Any] | None:
        if not any(self._measured.values()):
            return None
        self._fit()
        self._searched += 1
        known = self._keys
        worth, fits = self._worth(), self._branch()
        first = [*islice(self._random, DRAWN), *self._mutants(self._parents(), scale=0.3)]
        pool = _distinct(filter(fits, first), known) or _distinct(first, known)
        for scale in SCALES:
            ranked = self._ranked(pool, worth)[:PARENTS]
            nearby = filter(fits, self._mutants(ranked, scale=scale))
            pool = ranked + _distinct(nearby, known | {_key(point) for point in ranked})
        return next(iter(self._ranked(pool, worth)), None)

    def _branch(self) -> Callable[[Mapping[str, Any]], bool]:
        """Return what says whether a point lies in the branch whose turn it is; mostly no branch has one."""
        turn, rest = divmod(self._searched, BRANCH_EVERY)
        if not self._branches or rest:
            return lambda point: True
        name, option = self._branches[turn % len(self._branches)]
        return lambda point: _key(point.get(name)) == _key(option)

    def _parents(self) -> list[Mapping[str, Any]]:
        """Return the best points so far, those of each objective in turn."""
        coded = self._known()
        ranks = [self._np.argsort(-model.predict(coded)[0], kind="stable") for model in self._models]
        turns = [int(rank[place]) for place in range(len(self._points)) for rank in ranks]
        return [self._points[number] for number in dict.fromkeys(turns)][:PARENTS]

    def _ranked(self, pool: list[Mapping[str, Any]], worth: Any) -> list[Mapping[str, Any]]:  # noqa: ANN401
        if not pool:
            return []
        order = self._np.argsort(-worth(self._coded(pool)), kind="stable")
        return [pool[int(number)] for number in order]

    def _worth(self) -> Any:  # noqa: ANN401  # a function from coded points to an array
        """Return what says how much an assignment promises: the logarithm of its expected improvement."""
        np = self._np
        coded = self._known()
        if len(self._models) == 1 or self._rng.random() < FOCUS:
            best = float(self._models[0].predict(coded)[0].max())

            def single(points: "Array") -> "Array":
                mean, deviation = self._models[0].predict(points)
                worth: Array = _log_improvement(np, (mean - best) / deviation) + np.log(deviation)
                return worth

            return single
        weights = self._draws.dirichlet(np.ones(len(self._models)))
        seen = np.stack([model.predict(coded)[0] for model in self._models])
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

    def _mutants(self, parents: Sequence[Mapping[str, Any]], *, scale: float) -> list[Mapping[str, Any]]:
        made: list[Mapping[str, Any]] = []
        for parent in parents:
            made.extend(found for _ in range(MUTANTS) if (found := self._mutant(parent, scale)) is not None)
        return made

    def _mutant(self, parent: Mapping[str, Any], scale: float) -> Mapping[str, Any] | None:
        """Return a point with one or two values changed; what becomes active by it is drawn anew."""
        changed = set(self._rng.sample(list(parent), min(len(parent), self._rng.choice((1, 1, 2)))))

        def place(name: str) -> float:
            if name not in parent or (name in changed and options(self._space[name])):
                return self._rng.random()
            at = place_of(self._space[name], parent[name])
            if name in changed:
                at += self._rng.gauss(0, scale)
            return min(1 - 1e-12, max(0.0, at))

        try:
            return assignment_at(self._space, place)
        except VariableError:
            return None

    def _known(self, numbers: Sequence[int] | None = None) -> "Array":
        """Return the codes of suggestions; of all by default."""
        rows = self._codes if numbers is None else [self._codes[number] for number in numbers]
        made: Array = self._np.array(rows, dtype=float).reshape(len(rows), len(self._names))
        return made

    def _coded(self, points: Sequence[Mapping[str, Any]]) -> "Array":
        made: Array = self._np.array([self._code(point) for point in points], dtype=float)
        return made.reshape(len(points), len(self._names))

    def _code(self, point: Mapping[str, Any]) -> list[float]:
        row: list[float] = []
        for name in self._names:
            if name not in point:
                row.append(math.nan)
            elif places := self._places[name]:
                row.append(places[_key(point[name])])
            else:
                row.append(place_of(self._space[name], point[name]))
        return row


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


def _distinct(points: Iterable[Mapping[str, Any]], known: set[str]) -> list[Mapping[str, Any]]:
    found: dict[str, Mapping[str, Any]] = {}
    for point in points:
        if (key := _key(point)) not in known:
            found.setdefault(key, point)
    return list(found.values())


def _key(value: object) -> str:
    return repr(sorted(value.items()) if isinstance(value, Mapping) else value)
