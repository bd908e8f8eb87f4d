"""A Gaussian process over a mixed, conditional space; it predicts scores of other points."""

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
_CENTRES = {
    "amplitude": 0.0,
    "noise": math.log(1e-3),
    "weight": math.log(0.5),
    "scale": math.log(0.4),
}
_SPREADS = {"amplitude": 1.0, "noise": 2.0, "weight": 1.0, "scale": 0.8}


def numpy() -> Any:
    """Return the module.

    Raises:
        ConfigurationError: it is not installed.
    """
    try:
        import numpy as module
    except ImportError as error:
        raise ConfigurationError(
            "this optimizer needs NumPy: pip install 'dspex[optimize]'"
        ) from error
    return module


def check_installed() -> None:
    """Check that the packages of a surrogate are installed.

    Raises:
        ConfigurationError: NumPy or threadpoolctl is not installed.
    """
    numpy()
    _threads()


def _threads() -> Any:
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError as error:
        raise ConfigurationError(
            "this optimizer needs threadpoolctl: pip install 'dspex[optimize]'"
        ) from error
    return ThreadpoolController()


@dataclass(frozen=True, slots=True)
class _Pairs:
    """The differences between pairs of points: a gap for numbers, inequality for options.

    There is one column for each variable.

    A number that is active in only one point is far away; if it is active in neither, the gap is
    zero.
    """

    shape: tuple[int, ...]
    columns: "list[Array]"


class Surrogate:
    """Predicts values from noisy ones at other points, with a standard deviation.

    Points are rows with one column for each variable: a number from 0 to 1, the index of an option,
    or NaN where the variable is inactive. The kernel is the product of one plus a weighted kernel
    for each variable (N. Durrande et al., "ANOVA kernels", 2013): effects of single variables, of
    pairs and of larger groups, each as strong as the data suggest. Weights and scales maximize
    their posterior probability, with a seeded search.

    Linear algebra uses one thread: matrices of this size gain nothing from more, and the last
    digits, which may decide a search, must not depend on the number of cores.
    """

    def __init__(self, is_number: Sequence[bool], *, seed: int = 0) -> None:
        """Take the kinds of the columns: True for a number, False for an option."""
        np = self._np = numpy()
        self._threads = _threads()
        self._is_number = list(is_number)
        self._rng = np.random.default_rng(seed)
        kinds = ["amplitude", "noise", *["weight"] * len(is_number), *["scale"] * len(is_number)]
        self._centre = np.array([_CENTRES[kind] for kind in kinds])
        self._spread = np.array([_SPREADS[kind] for kind in kinds])
        self._parameters = self._centre.copy()

    def fit(
        self, points: "Array", values: "Array", noise: "Array", *, is_tuned: bool = True
    ) -> "Array":
        """Fit `values` measured at `points` with variances `noise`; return the expected values.

        `is_tuned` tunes weights and scales again.
        """
        with self._one_thread():
            np = self._np
            self._points, self._middle, self._unit = (
                points,
                float(values.mean()),
                float(values.std()) or 1.0,
            )
            self._scaled, self._noise = (values - self._middle) / self._unit, noise / self._unit**2
            self._lower = np.tril_indices(len(points))
            self._pairs = self._between(points[self._lower[0]], points[self._lower[1]])
            if is_tuned:
                self._tune()
            bordered = self._factor(self._parameters)
            self._inverse = np.linalg.inv(bordered[:-1, :-1])
            self._weights = bordered[-1, :-1] @ self._inverse
            expected: Array = (
                self._scaled - (self._noise + self._nugget(self._parameters)) * self._weights
            )
            return self._middle + self._unit * expected

    def add_pending(self, points: "Array", noise: float) -> None:
        """Treat the expected values at `points` as measured with variance `noise`.

        Only deviations change.
        """
        with self._one_thread():
            np = self._np
            count = len(points)
            cross = self._cross(points, self._points) @ self._inverse.T
            within = self._cross(points, points) - cross @ cross.T
            blur = noise / self._unit**2 + self._nugget(self._parameters)
            root = np.linalg.inv(np.linalg.cholesky(within + blur * np.eye(count)))
            above = np.zeros((len(self._points), count))
            self._inverse = np.block(
                [[self._inverse, above], [-root @ cross @ self._inverse, root]]
            )
            self._points = np.concatenate([self._points, points])
            self._weights = np.concatenate([self._weights, np.zeros(count)])

    def predict(self, points: "Array") -> "tuple[Array, Array]":
        """Return means and standard deviations of the values without noise."""
        with self._one_thread():
            np = self._np
            cross = self._cross(points, self._points)
            mean = cross @ self._weights
            explained = np.square(cross @ self._inverse.T).sum(axis=1)
            residual = np.maximum(1e-12, math.exp(self._parameters[0]) - explained)
            return self._middle + self._unit * mean, self._unit * np.sqrt(residual)

    def _one_thread(self) -> AbstractContextManager[object]:
        limit: AbstractContextManager[object] = self._threads.limit(limits=1, user_api="blas")
        return limit

    def _tune(self) -> None:
        """Climb from the current parameters by random steps that grow with success."""
        best, step = self._log_posterior(self._parameters), 0.6
        for _ in range(STEPS):
            mask = self._rng.random(len(self._parameters)) < max(0.3, 2 / len(self._parameters))
            proposal = (
                self._parameters
                + step * mask * self._rng.standard_normal(len(self._parameters)) * self._spread
            )
            posterior = self._log_posterior(proposal)
            is_better = posterior > best
            self._parameters, best = (
                (proposal, posterior) if is_better else (self._parameters, best)
            )
            step = min(1.5, step * 1.5) if is_better else max(0.05, step * 0.93)

    def _between(self, first: "Array", second: "Array") -> _Pairs:
        """Return pairwise differences; arrays with one more axis are broadcast."""
        np, columns = self._np, []
        for column, is_number in enumerate(self._is_number):
            gap = np.abs(first[..., column] - second[..., column])
            if (is_missing := np.isnan(gap)).any():
                gap[is_missing] = FAR
                gap[np.isnan(first[..., column]) & np.isnan(second[..., column])] = 0.0
            columns.append(gap if is_number else gap > 0)
        return _Pairs(np.broadcast_shapes(first.shape[:-1], second.shape[:-1]), columns)

    def _cross(self, first: "Array", second: "Array") -> "Array":
        return self._kernel(self._parameters, self._between(first[:, None, :], second[None, :, :]))

    def _kernel(self, parameters: "Array", pairs: _Pairs) -> "Array":
        np, count = self._np, len(self._is_number)
        weights, scales = np.exp(parameters[2 : 2 + count]), np.exp(parameters[2 + count :])
        product: Array = np.full(pairs.shape, math.exp(parameters[0]))
        for apart, is_number, weight, scale in zip(
            pairs.columns, self._is_number, weights, scales, strict=True
        ):
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

    def _nugget(self, parameters: "Array") -> float:
        return math.exp(parameters[1]) + JITTER

    def _factor(self, parameters: "Array") -> "Array":
        """Return the Cholesky factor of the kernel bordered by the values.

        Its last row solves for them.

        The corner only has to be large. One factorization thus serves both the determinant and the
        values.
        """
        np, count = self._np, len(self._points)
        kernel = np.zeros((count + 1, count + 1))
        kernel[self._lower] = self._kernel(parameters, self._pairs)
        kernel.flat[: -1 : count + 2] += self._noise + self._nugget(parameters)
        kernel[-1, :-1], kernel[-1, -1] = self._scaled, BORDER
        root: Array = np.linalg.cholesky(kernel)
        return root

    def _log_posterior(self, parameters: "Array") -> float:
        np = self._np
        prior = -0.5 * float(np.square((parameters - self._centre) / self._spread).sum())
        try:
            root = self._factor(parameters)
        except np.linalg.LinAlgError:
            return -math.inf
        solved = root[-1, :-1]
        return prior - 0.5 * float(solved @ solved) - float(np.log(root.diagonal()[:-1]).sum())
