"""What a score probably is where nothing was measured: a Gaussian process over a mixed, conditional space."""

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dspex.errors import ConfigurationError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

STEPS = 60
FAR = 50.0
JITTER = 1e-9
BORDER = 1e30
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


def check_installed() -> None:
    """Refuse to begin what a surrogate will be needed for.

    Raises:
        ConfigurationError: NumPy or threadpoolctl is not installed.
    """
    numpy()
    _threads()


def _threads() -> Any:  # noqa: ANN401  # imported when needed
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError as error:
        raise ConfigurationError("this optimizer needs threadpoolctl: pip install 'dspex[optimize]'") from error
    return ThreadpoolController()


@dataclass(frozen=True, slots=True)
class _Pairs:
    """What sets the points of each pair apart, a list of columns: a gap for a number, whether they differ for options.

    Where only one of two is active, a number is far; where neither is, there is no difference.
    """

    shape: tuple[int, ...]
    columns: "list[Array]"


class Surrogate:
    """Predicts values from noisy ones at other points, with a standard deviation.

    Points are rows with one column for each variable: a number from 0 to 1, the index of an option, or NaN where the
    variable is inactive. The kernel is the product of one plus a weighted kernel for each variable (N. Durrande et al.,
    "ANOVA kernels", 2013): effects of single variables, of pairs and of more of them at once, each as strong as the
    data say. Weights and scales are chosen by their posterior probability, with a seeded search.

    Linear algebra is kept to one thread: for matrices of this size more of them mostly wait for one another, and the
    last digits, on which a search may turn, are to be the same on any number of cores.
    """

    def __init__(self, is_number: Sequence[bool], *, seed: int = 0) -> None:
        """Take which columns are numbers; the others are options."""
        np = self._np = numpy()
        self._threads = _threads()
        self._is_number = list(is_number)
        self._rng = np.random.default_rng(seed)
        kinds = ["amplitude", "noise", *["weight"] * len(is_number), *["scale"] * len(is_number)]
        self._centre = np.array([_CENTRES[kind] for kind in kinds])
        self._spread = np.array([_SPREADS[kind] for kind in kinds])
        self._chosen = self._centre.copy()

    def fit(self, points: "Array", values: "Array", noise: "Array", *, is_tuned: bool = True) -> "Array":
        """Take `values` measured at `points` with variances `noise`, and return the values expected there.

        `is_tuned` chooses weights and scales anew.
        """
        with self._one_thread():
            np = self._np
            self._points, self._middle, self._unit = points, float(values.mean()), float(values.std()) or 1.0
            self._scaled, self._noise = (values - self._middle) / self._unit, noise / self._unit**2
            self._lower = np.tril_indices(len(points))
            self._pairs = self._between(points[self._lower[0]], points[self._lower[1]])
            if is_tuned:
                self._tune()
            bordered = self._factor(self._chosen)
            self._inverse = np.linalg.inv(bordered[:-1, :-1])
            self._weights = bordered[-1, :-1] @ self._inverse
            expected: Array = self._scaled - (self._noise + self._nugget(self._chosen)) * self._weights
            return self._middle + self._unit * expected

    def believe(self, points: "Array", noise: float) -> None:
        """Take the values expected at `points` as measured with variance `noise`: only the deviations change."""
        with self._one_thread():
            np = self._np
            count = len(points)
            cross = self._cross(points, self._points) @ self._inverse.T
            within = self._cross(points, points) - cross @ cross.T
            blur = noise / self._unit**2 + self._nugget(self._chosen)
            root = np.linalg.inv(np.linalg.cholesky(within + blur * np.eye(count)))
            above = np.zeros((len(self._points), count))
            self._inverse = np.block([[self._inverse, above], [-root @ cross @ self._inverse, root]])
            self._points = np.concatenate([self._points, points])
            self._weights = np.concatenate([self._weights, np.zeros(count)])

    def predict(self, points: "Array") -> "tuple[Array, Array]":
        """Return means and standard deviations of the values without noise."""
        with self._one_thread():
            np = self._np
            cross = self._cross(points, self._points)
            mean = cross @ self._weights
            explained = np.square(cross @ self._inverse.T).sum(axis=1)
            left = np.maximum(1e-12, math.exp(self._chosen[0]) - explained)
            return self._middle + self._unit * mean, self._unit * np.sqrt(left)

    def _one_thread(self) -> AbstractContextManager[object]:
        made: AbstractContextManager[object] = self._threads.limit(limits=1, user_api="blas")
        return made

    def _tune(self) -> None:
        """Climb from what was chosen before, by random steps that grow with success."""
        best, step = self._plausibility(self._chosen), 0.6
        for _ in range(STEPS):
            mask = self._rng.random(len(self._chosen)) < max(0.3, 2 / len(self._chosen))
            tried = self._chosen + step * mask * self._rng.standard_normal(len(self._chosen)) * self._spread
            found = self._plausibility(tried)
            is_better = found > best
            self._chosen, best = (tried, found) if is_better else (self._chosen, best)
            step = min(1.5, step * 1.5) if is_better else max(0.05, step * 0.93)

    def _between(self, one: "Array", other: "Array") -> _Pairs:
        """Return the pairs of equally many points; or, one of them having an axis more, of each with each."""
        np, columns = self._np, []
        for column, is_number in enumerate(self._is_number):
            gap = np.abs(one[..., column] - other[..., column])
            if (is_missing := np.isnan(gap)).any():
                gap[is_missing] = FAR
                gap[np.isnan(one[..., column]) & np.isnan(other[..., column])] = 0.0
            columns.append(gap if is_number else gap > 0)
        return _Pairs(np.broadcast_shapes(one.shape[:-1], other.shape[:-1]), columns)

    def _cross(self, one: "Array", other: "Array") -> "Array":
        return self._kernel(self._chosen, self._between(one[:, None, :], other[None, :, :]))

    def _kernel(self, chosen: "Array", pairs: _Pairs) -> "Array":
        np, count = self._np, len(self._is_number)
        weights, scales = np.exp(chosen[2 : 2 + count]), np.exp(chosen[2 + count :])
        product: Array = np.full(pairs.shape, math.exp(chosen[0]))
        for apart, is_number, weight, scale in zip(pairs.columns, self._is_number, weights, scales, strict=True):
            share = 1 / (1 + weight)
            if not is_number:
                product *= np.where(apart, share, 1.0)
                continue
            far = apart * (math.sqrt(5) / scale)
            part = np.exp(-far)
            part *= 1 + far + far * far / 3
            part *= weight * share
            part += share
            product *= part
        return product

    def _nugget(self, chosen: "Array") -> float:
        return math.exp(chosen[1]) + JITTER

    def _factor(self, chosen: "Array") -> "Array":
        """Return the Cholesky factor of the kernel, bordered by the values: its last row is the factor solved for them.

        The corner only has to be large. One factorization thus serves both the determinant and the values.
        """
        np, count = self._np, len(self._points)
        kernel = np.zeros((count + 1, count + 1))
        kernel[self._lower] = self._kernel(chosen, self._pairs)
        kernel.flat[: -1 : count + 2] += self._noise + self._nugget(chosen)
        kernel[-1, :-1], kernel[-1, -1] = self._scaled, BORDER
        root: Array = np.linalg.cholesky(kernel)
        return root

    def _plausibility(self, chosen: "Array") -> float:
        np = self._np
        prior = -0.5 * float(np.square((chosen - self._centre) / self._spread).sum())
        try:
            root = self._factor(chosen)
        except np.linalg.LinAlgError:
            return -math.inf
        solved = root[-1, :-1]
        return prior - 0.5 * float(solved @ solved) - float(np.log(root.diagonal()[:-1]).sum())
