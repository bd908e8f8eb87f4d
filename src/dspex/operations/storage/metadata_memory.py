"""The metadata of chunks in memory, by which searches are filtered."""

import json
import threading
from collections.abc import Iterable
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dspex.execution.retrieval.where import Condition, Where
from dspex.operations.storage.arrays import GrowingArray

_PER_VALUE = 150  # bytes of a text or a decoded value, beside the characters of texts


class _Column:
    """The values of one name, each different one once."""

    def __init__(self) -> None:
        self._values: list[Any] = []
        self._numbers: dict[Any, int] = {}
        self.of_text = GrowingArray(np.int32)

    def append(self, values: Iterable[Any]) -> None:
        numbers: list[int] = []
        for value in values:
            number = self._numbers.setdefault(_key(value), len(self._values))
            if number == len(self._values):
                self._values.append(value)
            numbers.append(number)
        self.of_text.append(np.array(numbers, dtype=np.int32))

    def passing(self, condition: Condition) -> NDArray[np.bool_]:
        """Return which texts meet a condition."""
        if condition.operator in {"eq", "ne", "in"}:  # one look, however many values there are
            operands = condition.value if isinstance(condition.value, tuple) else (condition.value,)
            table = np.zeros(len(self._values), dtype=np.bool_)
            for operand in operands:
                table[self._numbers.get(_key(operand), slice(0))] = True
            table = ~table if condition.operator == "ne" else table
        else:
            tests = map(condition.accepts, self._values)
            table = np.fromiter(tests, dtype=np.bool_, count=len(self._values))
        return table.take(self.of_text.rows)


def _key(value: Any) -> tuple[str, Any]:
    """Return a key that values have in common if they are equal in conditions."""
    if isinstance(value, bool) or value is None:
        return ("constant", value)
    if isinstance(value, int | float):
        return ("number", value)
    return ("text", value) if isinstance(value, str) else ("json", json.dumps(value))


class MetadataMemory:
    """The metadata of the first chunks of an index: each different text once.

    Conditions are decided once for each different value, by the definition that all searches
    share. Threads may share it.
    """

    def __init__(self) -> None:
        """Begin without chunks."""
        self._lock = threading.Lock()
        self._of_chunk = GrowingArray(np.int32)
        self._texts: dict[str, int] = {}
        self._characters = 0
        self._columns: dict[str, _Column] = {}

    @property
    def count(self) -> int:
        """Return the number of chunks."""
        return self._of_chunk.count

    @property
    def nbytes(self) -> int:
        """Return about how large it is."""
        values = _PER_VALUE * len(self._texts) * (1 + len(self._columns))
        return self._of_chunk.nbytes + self._characters + values

    def append(self, texts: Iterable[str]) -> None:
        """Append the metadata of chunks, as JSON."""
        numbers: list[int] = []
        with self._lock:
            for text in texts:
                number = self._texts.setdefault(text, len(self._texts))
                self._characters += len(text) if number == len(self._texts) - 1 else 0
                numbers.append(number)
            self._of_chunk.append(np.array(numbers, dtype=np.int32))

    def passing(self, where: Where, count: int) -> NDArray[np.bool_]:
        """Return which of the first `count` chunks meet all conditions."""
        with self._lock:
            texts = np.ones(len(self._texts), dtype=np.bool_)
            for condition in where.conditions:
                texts &= self._column(condition.name).passing(condition)
            return texts.take(self._of_chunk.rows[:count])

    def _column(self, name: str) -> _Column:
        column = self._columns.setdefault(name, _Column())
        if column.of_text.count < len(self._texts):
            new = islice(self._texts, column.of_text.count, None)
            column.append(json.loads(text).get(name) for text in new)
        return column
