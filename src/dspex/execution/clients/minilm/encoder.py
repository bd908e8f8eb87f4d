"""The forward pass of all-MiniLM-L6-v2 in NumPy."""

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

import numpy

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dspex.execution.clients.minilm.onnx_file import Weights

    Array = NDArray[Any]

DIMENSIONS: Final = 384
_LAYERS: Final = 6
_HEADS: Final = 12
_BLOCK: Final = 32  # rows; their activations fit into the cache next to a core
_EPSILON: Final = 1e-12


class _Layer:
    """The weights of one layer."""

    def __init__(self, weights: "Weights", matrices: list["Array"], number: int) -> None:
        prefix = f"inner.encoder.layer.{number}"
        query, key, value, self.attention, self.inner, self.outer = matrices
        names = ("query", "key", "value")
        biases = [weights[f"{prefix}.attention.self.{name}.bias"] for name in names]
        scale = (DIMENSIONS // _HEADS) ** -0.5
        self.heads = numpy.concatenate((query * scale, key, value), axis=1)
        self.heads_bias = numpy.concatenate((biases[0] * scale, *biases[1:]))
        self.attention_bias = weights[f"{prefix}.attention.output.dense.bias"]
        self.inner_bias = weights[f"{prefix}.intermediate.dense.bias"]
        self.outer_bias = weights[f"{prefix}.output.dense.bias"]
        self.attention_norm = _norm_weights(weights, f"{prefix}.attention.output")
        self.outer_norm = _norm_weights(weights, f"{prefix}.output")


class Encoder:
    """Turns the numbers of word pieces into vectors; safe to share between threads.

    Weights are stored as int8 with a scale for each row of an embedding and each column of a
    matrix. Matrices are kept as float32 (42 MB), embeddings as they are in the file.

    Sources: "BERT", Devlin et al., 2018; "Sentence-BERT", Reimers and Gurevych, 2019.
    """

    def __init__(self, weights: "Weights") -> None:
        """Take the weights of the file."""
        # Matrices have no telling names: they are in the order in which the model uses them
        matrices = [
            values * weights[f"{name.removesuffix('_q')}_scale"]
            for name, values in weights.items()
            if name.startswith("val_") and name.endswith("_q")
        ]
        size = len(matrices) // _LAYERS
        self._layers = [
            _Layer(weights, matrices[n * size : (n + 1) * size], n) for n in range(_LAYERS)
        ]
        prefix = "inner.embeddings"
        words = f"{prefix}.word_embeddings.weight"
        positions = f"{prefix}.position_embeddings.weight"
        self._words, self._word_scales = weights[f"{words}_q"], weights[f"{words}_scale"]
        # every text is of type 0
        self._positions = (
            weights[f"{positions}_q"] * weights[f"{positions}_scale"]
            + weights[f"{prefix}.token_type_embeddings.weight"][0]
        )
        self._norm = _norm_weights(weights, prefix)

    def encode(self, texts: Sequence[Sequence[int]]) -> "Array":
        """Return vectors of length 1 of texts sorted by length, given as numbers of word pieces.

        All tokens are the rows of one matrix, so nothing is padded or masked.
        """
        numbers = numpy.concatenate([numpy.asarray(text, dtype=numpy.int64) for text in texts])
        places = numpy.concatenate([numpy.arange(len(text)) for text in texts])
        rows = self._words[numbers] * self._word_scales[numbers] + self._positions[places]
        _normalize(rows, self._norm)
        groups = [(length, len(list(group))) for length, group in groupby(map(len, texts))]
        for layer in self._layers:
            rows = _apply(layer, rows, groups)
        parts, start = [], 0
        for length, count in groups:
            end = start + length * count
            parts.append(rows[start:end].reshape(count, length, DIMENSIONS).mean(axis=1))
            start = end
        means = numpy.concatenate(parts)
        means /= numpy.linalg.norm(means, axis=1, keepdims=True)
        return means


def _apply(layer: _Layer, rows: "Array", groups: Sequence[tuple[int, int]]) -> "Array":
    heads = rows @ layer.heads
    heads += layer.heads_bias
    attention = numpy.empty_like(rows)
    start = 0
    for length, count in groups:
        end = start + length * count
        attention[start:end] = _attend(heads[start:end], length, count)
        start = end
    attention = attention @ layer.attention
    attention += layer.attention_bias
    attention += rows
    _normalize(attention, layer.attention_norm)
    inner = attention @ layer.inner
    inner += layer.inner_bias
    _gelu(inner)
    outer = inner @ layer.outer
    outer += layer.outer_bias
    outer += attention
    _normalize(outer, layer.outer_norm)
    return outer


def _attend(heads: "Array", length: int, count: int) -> "Array":
    """Return the attention of `count` texts of one length."""
    shape = (count, length, 3, _HEADS, DIMENSIONS // _HEADS)
    query, key, value = heads.reshape(shape).transpose(2, 0, 3, 1, 4)
    scores = query @ key.swapaxes(-1, -2)
    scores -= scores.max(axis=-1, keepdims=True)
    numpy.exp(scores, out=scores)
    scores /= scores.sum(axis=-1, keepdims=True)
    return (scores @ value).transpose(0, 2, 1, 3).reshape(count * length, DIMENSIONS)


def _norm_weights(weights: "Weights", prefix: str) -> tuple["Array", "Array"]:
    return weights[f"{prefix}.LayerNorm.weight"], weights[f"{prefix}.LayerNorm.bias"]


def _normalize(rows: "Array", norm: tuple["Array", "Array"]) -> None:
    rows -= rows.mean(axis=1, keepdims=True)
    variance = numpy.einsum("ij,ij->i", rows, rows)[:, None] / rows.shape[1]
    rows /= numpy.sqrt(variance + _EPSILON)
    rows *= norm[0]
    rows += norm[1]


def _gelu(rows: "Array") -> None:
    """Replace x by x * (1 + erf(x / sqrt(2))) / 2."""
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        block *= _half_erf(block)


# erf(x) for |x| <= 4 as a quotient of polynomials in x squared; error below 1e-6. Source: Eigen.
_NUMERATOR: Final = (
    -2.72614225801306e-10,
    2.77068142495902e-08,
    -2.10102402082508e-06,
    -5.69250639462346e-05,
    -7.34990630326855e-04,
    -2.95459980854025e-03,
    -1.60960333262415e-02,
)
_DENOMINATOR: Final = (
    -1.45660718464996e-05,
    -2.13374055278905e-04,
    -1.68282697438203e-03,
    -7.37332916720468e-03,
    -1.42647390514189e-02,
)


def _half_erf(values: "Array") -> "Array":
    """Return (1 + erf(x / sqrt(2))) / 2."""
    x = numpy.clip(values * numpy.float32(0.5**0.5), -4, 4)
    square = x * x
    result = _polynomial(_NUMERATOR, square)
    result *= x
    result /= _polynomial(_DENOMINATOR, square)
    result *= 0.5
    result += 0.5
    return result


def _polynomial(coefficients: Sequence[float], x: "Array") -> "Array":
    result = x * numpy.float32(coefficients[0])
    result += numpy.float32(coefficients[1])
    for coefficient in coefficients[2:]:
        result *= x
        result += numpy.float32(coefficient)
    return result
