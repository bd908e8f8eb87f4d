"""The same forward pass by ONNX Runtime, where it is installed."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy

if TYPE_CHECKING:
    from numpy.typing import NDArray


class RuntimeEncoder:
    """Does what `Encoder` does, with vectors that are equal up to rounding."""

    def __init__(self, path: Path) -> None:
        """Load the file, which the caller has checked, for one thread."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session: Any = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )

    def encode(self, texts: Sequence[Sequence[int]]) -> "NDArray[numpy.float32]":
        """Return vectors of length 1 of texts, given as numbers of word pieces."""
        numbers = numpy.zeros((len(texts), max(map(len, texts))), dtype=numpy.int64)
        mask = numpy.zeros_like(numbers)
        for row, row_mask, text in zip(numbers, mask, texts, strict=True):
            row[: len(text)] = text
            row_mask[: len(text)] = 1
        inputs = {
            "input_ids": numbers,
            "attention_mask": mask,
            "token_type_ids": numpy.zeros_like(numbers),
        }
        (states,) = self._session.run(None, inputs)
        vectors: NDArray[numpy.float32] = (states * mask[:, :, None]).sum(axis=1).astype("f4")
        vectors /= numpy.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors
