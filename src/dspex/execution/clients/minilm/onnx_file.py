"""Read the weights of an ONNX file, without a library."""

import hashlib
import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dspex.errors import ConfigurationError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Weights = dict[str, NDArray[Any]]

# Numbers of fields: onnx.proto, IR version 10
_GRAPH: Final = 7  # of a model
_INITIALIZER: Final = 5  # of a graph
_DIMENSIONS, _TYPE, _NAME, _DATA = 1, 2, 8, 9  # of a tensor
_TYPES: Final = {1: "<f4", 3: "i1"}


def read_weights(path: Path, sha256: str) -> "Weights":
    """Return the float32 and int8 tensors of an ONNX file by name, in the order of the file.

    They are views of the file, which stays mapped while one of them is used.

    Raises:
        ConfigurationError: the file is missing, or is not the one with this checksum.
    """
    try:
        with path.open("rb") as file:
            content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"the model file {str(path)!r} cannot be read: {error}") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ConfigurationError(
            f"the model file {str(path)!r} is not the expected one: its sha256 is not {sha256}"
        )
    (graph,) = (value for number, value in _fields(content) if number == _GRAPH)
    tensors = (value for number, value in _fields(graph) if number == _INITIALIZER)
    return dict(pair for pair in map(_tensor, tensors) if pair is not None)


def _tensor(content: memoryview) -> "tuple[str, NDArray[Any]] | None":
    """Return name and values, None for a tensor of another type."""
    import numpy

    parts = dict(_fields(content))
    if (kind := _TYPES.get(parts[_TYPE])) is None:
        return None
    shape = [value for number, value in _fields(content) if number == _DIMENSIONS]
    if shape and not isinstance(shape[0], int):  # packed
        shape = list(_numbers(shape[0]))
    values = numpy.frombuffer(parts[_DATA], dtype=kind).reshape(shape)
    return bytes(parts[_NAME]).decode(), values


def _fields(content: memoryview) -> Iterator[tuple[int, Any]]:
    """Yield number and value of each field of a protobuf message.

    Format: Protocol Buffers, "Encoding".
    """
    place = 0
    while place < len(content):
        key, place = _number(content, place)
        match key & 7:
            case 0:
                value, place = _number(content, place)
                yield key >> 3, value
            case 2:
                size, place = _number(content, place)
                yield key >> 3, content[place : place + size]
                place += size
            case wire:
                place += {1: 8, 5: 4}[wire]


def _numbers(content: memoryview) -> Iterator[int]:
    place = 0
    while place < len(content):
        value, place = _number(content, place)
        yield value


def _number(content: memoryview, place: int) -> tuple[int, int]:
    """Return a number of variable length, and the place after it."""
    value = shift = 0
    while True:
        byte = content[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place
