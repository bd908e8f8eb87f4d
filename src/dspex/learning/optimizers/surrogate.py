"""What a score probably is where nothing was measured: a Gaussian process over a mixed, conditional space."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dspex.errors import ConfigurationError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

STEPS = 60
FAR = 50.0
_CENTRES = {"amplitude": 0.0, "noise": math.log(1e-3), "weight": math.log(0.5), "scale": math.log(0.4)}
_SPREADS = {"amplitude": 1.0, "noise": 2.0, "weight": 1.0, "scale": 0.8}


def numpy() -> Any:  # noqa: ANN401  # imported when needed
    """Return the module.

    Raises:
        ConfigurationError: it is not installed.
    """
    try:
        import numpy as found
    except ImportError as error:
        raise ConfigurationError("this optimizer needs NumPy: pip install 'dspex[optimize]'") from error
    return found


class Surrogate:
    """Predicts values from noisy ones at other points, with a standard deviation.

    Points are rows with one column for each variable: a number from 0 to 1, the index of an option, or NaN where the
    variable is inactive. The kernel is the product of one plus a weighted kernel for each variable (N. Durrande et al.,
    "ANOVA kernels", 2013): effects of single variables, of pairs and of more of them at once, each as strong as the
    data say. Weights and scales are chosen by their posterior probability, with a seeded search.
    """

    def __init__(self, is_number: Sequence[bool], *, seed: int = 0) -> None:
        """Take which columns are numbers; the others are options."""
        self._np = numpy()
        self._is_number = list(is_number)
        self._rng = self._np.random.default_rng(seed)
        kinds = ["amplitude", "noise", *["weight"] * len(is_number), *["scale"] * len(is_number)]
        self._centre = self._np.array([_CENTRES[kind] for kind in kinds])
        self._spread = self._np.array([_SPREADS[kind] for kind in kinds])
        self._chosen = self._centre.copy()

    def fit(self, points: "Array", values: "Array", noise: "Array", *, is_tuned: bool = True) -> None:
        """Take `values` measured at `points` with variances `noise`; `is_tuned` chooses weights and scales anew."""
        np = self._np
        self._points, self._middle, self._unit = points, float(values.mean()), float(values.std()) or 1.0
        self._scaled, self._noise = (values - self._middle) / self._unit, noise / self._unit**2
        self._distances = self._between(points, points)
        best = self._plausibility(self._chosen)
        step = 0.6
        for _ in range(STEPS if is_tuned else 0):
            mask = self._rng.random(len(self._chosen)) < max(0.3, 2 / len(self._chosen))
            tried = self._chosen + step * mask * self._rng.standard_normal(len(self._chosen)) * self._spread
            found = self._plausibility(tried)
            is_better = found > best
            self._chosen, best = (tried, found) if is_better else (self._chosen, best)
            step = min(1.5, step * 1.5) if is_better else max(0.05, step * 0.93)
        self._root = self._factor(self._chosen)
        self._inverse = np.linalg.inv(self._root)
        self._weights = self._inverse.T @ (self._inverse @ self._scaled)

    def predict(self, points: "Array") -> "tuple[Array, Array]":
        """Return means and standard deviations of the values without noise."""
        np = self._np
        cross = self._kernel(self._chosen, self._between(points, self._points))
        mean = cross @ self._weights
        explained = ((cross @ self._inverse.T) ** 2).sum(axis=1)
        left = np.maximum(1e-12, math.exp(self._chosen[0]) - explained)
        return self._middle + self._unit * mean, self._unit * np.sqrt(left)

    def _between(self, one: "Array", other: "Array") -> "Array":
        """Return the distance in each variable; far where an option differs, or where only one of two is active."""
        np = self._np
        made: Array = np.empty((one.shape[1], len(one), len(other)))
        for column, is_number in enumerate(self._is_number):
            a, b = one[:, column][:, None], other[:, column][None, :]
            gap = np.abs(a - b)
            distance = gap if is_number else np.where(gap > 0, FAR, 0.0)
            both, either = np.isnan(a) & np.isnan(b), np.isnan(a) | np.isnan(b)
            made[column] = np.where(both, 0.0, np.where(either, FAR, distance))
        return made

    def _kernel(self, chosen: "Array", distances: "Array") -> "Array":
        np, count = self._np, len(self._is_number)
        weights, scales = np.exp(chosen[2 : 2 + count]), np.exp(chosen[2 + count :])
        scales = np.where(self._is_number, scales, 1.0)
        far = math.sqrt(5) * distances / scales[:, None, None]
        alike = (1 + far + far**2 / 3) * np.exp(-far)
        parts = (1 + weights[:, None, None] * alike) / (1 + weights[:, None, None])
        product: Array = np.exp(chosen[0]) * parts.prod(axis=0)
        return product

    def _factor(self, chosen: "Array") -> "Array":
        np = self._np
        kernel = self._kernel(chosen, self._distances)
        root: Array = np.linalg.cholesky(kernel + np.diag(self._noise + math.exp(chosen[1]) + 1e-9))
        return root

    def _plausibility(self, chosen: "Array") -> float:
        np = self._np
        prior = -0.5 * float((((chosen - self._centre) / self._spread) ** 2).sum())
        try:
            root = self._factor(chosen)
        except np.linalg.LinAlgError:
            return -math.inf
        solved = np.linalg.solve(root, self._scaled)
        return prior - 0.5 * float(solved @ solved) - float(np.log(np.diag(root)).sum())
