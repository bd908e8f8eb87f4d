"""Reading ONNX files without a library."""

import hashlib

import numpy
import pytest

from dspex.errors import ConfigurationError
from dspex.execution.clients.minilm.onnx_file import read_weights


def number(value: int) -> bytes:
    low = value & 127
    return bytes([low | 128]) + number(value >> 7) if value > 127 else bytes([low])


def field(index: int, content: bytes | int) -> bytes:
    if isinstance(content, int):
        return number(index << 3) + number(content)
    return number(index << 3 | 2) + number(len(content)) + content


def tensor(name: str, values: numpy.ndarray, kind: int, *, packed: bool) -> bytes:
    sizes = values.shape
    shape = (
        field(1, b"".join(map(number, sizes)))
        if packed
        else b"".join(field(1, size) for size in sizes)
    )
    return shape + field(2, kind) + field(8, name.encode()) + field(9, values.tobytes())


@pytest.mark.parametrize("packed", [False, True])
def test_tensors_are_read_by_name_type_and_shape(tmp_path, packed):
    floats = numpy.arange(600, dtype=numpy.float32).reshape(3, 200)
    bytes_ = numpy.arange(-3, 3, dtype=numpy.int8)
    longs = numpy.arange(3, dtype=numpy.int64)
    tensors = [
        tensor("a", floats, 1, packed=packed),
        tensor("b", bytes_, 3, packed=packed),
        tensor("c", longs, 7, packed=packed),
    ]
    graph = field(2, b"name") + b"".join(field(5, part) for part in tensors)
    fixed = number(20 << 3 | 5) + bytes(4) + number(21 << 3 | 1) + bytes(8)
    path = tmp_path / "model.onnx"
    path.write_bytes(field(1, 10) + fixed + field(7, graph))
    weights = read_weights(path, hashlib.sha256(path.read_bytes()).hexdigest())
    assert list(weights) == ["a", "b"]  # other types are not weights
    assert (weights["a"] == floats).all()
    assert weights["a"].shape == (3, 200)
    assert (weights["b"] == bytes_).all()


def test_another_file_is_refused(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"x")
    with pytest.raises(ConfigurationError, match="is not the expected one"):
        read_weights(path, "0" * 64)


@pytest.mark.parametrize("content", [None, b""])
def test_a_missing_or_empty_file_is_a_typed_error(tmp_path, content):
    path = tmp_path / "model.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_weights(path, "0" * 64)
