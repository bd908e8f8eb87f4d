"""Rows of data with a name and a checksum."""

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, overload

from dspex.arguments import checks_names, checks_values
from dspex.error_text import quantity, suggest
from dspex.errors import DefinitionError
from dspex.execution.adapters import read_row
from dspex.execution.retrieval.row_files import read_rows
from dspex.language.records import Example
from dspex.language.records.canonical import content_hash, list_hash
from dspex.language.signatures import Signature, SignatureLike
from dspex.learning.evaluation.plain import plain
from dspex.notebook import lazy_html


@checks_names
@dataclass(frozen=True, kw_only=True)
class Dataset(Sequence[Example]):
    """A frozen sequence of examples; equal rows in equal order have the same `checksum`."""

    examples: tuple[Example, ...]
    name: str = field(default="dataset", compare=False)

    @classmethod
    @checks_values
    def from_file(cls, path: str | Path) -> "Dataset":
        """Read a `.csv`, `.jsonl` or `.json` file (UTF-8, with or without a byte order mark).

        Raises:
            DefinitionError: the message names the file, the line and the fix.
        """
        path = Path(path)
        return cls(examples=tuple(Example(row) for row in read_rows(path)), name=path.stem)

    @classmethod
    @checks_values
    def from_rows(cls, rows: Iterable[Mapping[str, Any]], *, name: str = "dataset") -> "Dataset":
        """Create a dataset from mappings of field names to values.

        Raises:
            DefinitionError: `rows` is empty, or a row is not a mapping.
        """
        items = list(rows)
        for number, row in enumerate(items):
            if not isinstance(row, Mapping):
                raise DefinitionError(
                    f"row {number} of {name!r} is {row!r}, not a mapping from field to value"
                )
        if not items:
            raise DefinitionError(f"{name!r} has no rows")
        return cls(examples=tuple(Example(row) for row in items), name=name)

    def __len__(self) -> int:
        return len(self.examples)

    def __iter__(self) -> Iterator[Example]:
        return iter(self.examples)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> "Dataset": ...
    def __getitem__(self, index: int | slice) -> "Example | Dataset":
        if isinstance(index, slice):
            return Dataset(examples=self.examples[index], name=self.name)
        return self.examples[index]

    _repr_html_ = lazy_html("dspex.learning.evaluation.representation:dataset_html")

    def __repr__(self) -> str:
        return f"Dataset({self.name!r}, {quantity(len(self), 'row')} of {', '.join(self.fields)})"

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """The fields of all rows, in order of first appearance."""
        return tuple(dict.fromkeys(name for example in self.examples for name in example))

    @cached_property
    def checksum(self) -> str:
        """BLAKE2b-256 over the rows as JSON, without the name.

        Raises:
            DefinitionError: a value has no JSON form.
        """
        return list_hash(self._plain(number) for number in range(len(self)))

    def _plain(self, number: int) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for name, value in self.examples[number].items():
            try:
                values[name] = plain(value)
            except ValueError as error:
                raise DefinitionError(
                    f"row {number} of {self.name!r}: the value of {name!r} has no JSON form "
                    f"({error}), so the rows have no checksum; use text, numbers, lists, mappings, "
                    "models or media"
                ) from error
        return values

    def column(self, name: str) -> list[object]:
        """Return one field of all rows, in order.

        Raises:
            DefinitionError: a row lacks the field.
        """
        for number, example in enumerate(self.examples):
            if name not in example:
                hint = suggest(name, list(example))
                raise DefinitionError(
                    f"row {number} of {self.name!r} has no field {name!r}.{hint} Its fields are: "
                    f"{', '.join(example)}"
                )
        return [example[name] for example in self.examples]

    def typed(self, signature: SignatureLike) -> "Dataset":
        """Return the rows with texts parsed by the types of `signature`, such as "true" as True.

        Texts that are not valid for their field and fields that are not in the signature stay
        unchanged.
        """
        contract = Signature.of(signature)
        return Dataset(
            examples=tuple(Example(read_row(contract, row)) for row in self.examples),
            name=self.name,
        )

    def where(self, /, **values: object) -> "Dataset":
        """Return the rows with all these values: `data.where(split="train")`.

        Raises:
            DefinitionError: no row matches, or a field does not exist.
        """
        columns = {name: self.column(name) for name in values}
        indexes = [
            n
            for n in range(len(self))
            if all(columns[name][n] == value for name, value in values.items())
        ]
        label = ",".join(f"{name}={value}" for name, value in values.items())
        if not indexes:
            values_by_name = "; ".join(
                f"{name}: {', '.join(map(str, Counter(columns[name])))[:200]}" for name in values
            )
            raise DefinitionError(f"no row of {self.name!r} has {label}; there is {values_by_name}")
        return self.pick(indexes, name=f"{self.name}[{label}]")

    def pick(self, indexes: Iterable[int], *, name: str | None = None) -> "Dataset":
        """Return the rows at `indexes`, in that order."""
        return Dataset(
            examples=tuple(self.examples[index] for index in indexes), name=name or self.name
        )

    @checks_values
    def sample(self, count: int, *, seed: int) -> "Dataset":
        """Return `count` random rows without replacement; the same seed draws the same rows.

        Raises:
            DefinitionError: the dataset has fewer rows.
        """
        if not 0 < count <= len(self):
            raise DefinitionError(f"cannot sample {count} of the {len(self)} rows of {self.name!r}")
        return self.pick(_rng(seed).sample(range(len(self)), count))

    @checks_values
    def split(self, *sizes: float, seed: int, stratify: str | None = None) -> "tuple[Dataset, ...]":
        """Return disjoint random parts, followed by a part with the remaining rows.

        There is no remaining part if `sizes` cover all rows (0.8 and 0.2, or counts that add up);
        then the last part also gets the rows left by rounding.

        Args:
            sizes: a fraction (0.5, below 1) or a count (20) for each part.
            seed: the same seed draws the same parts.
            stratify: a field whose values have the same frequency in every part.

        Raises:
            DefinitionError: a part would be empty, or the parts exceed the dataset.
        """
        counts = self._counts(sizes)
        order = self._shuffled(seed, stratify)
        parts, start = [], 0
        for count in counts:
            parts.append(self.pick(sorted(order[start : start + count])))
            start += count
        return tuple(parts)

    def _counts(self, sizes: Sequence[float]) -> list[int]:
        """Return the number of rows of each part, including the remaining part."""
        counts = [self._count(size) for size in sizes]
        requested = sum(size * len(self) if size < 1 else size for size in sizes)
        is_complete = bool(sizes) and abs(requested - len(self)) < 1e-6 * len(self)
        if is_complete:
            counts[-1] = len(self) - sum(counts[:-1])
        rest = len(self) - sum(counts)
        if requested > len(self) * (1 + 1e-6) or rest < 0 or (is_complete and counts[-1] < 1):
            raise DefinitionError(
                f"parts of {counts} rows do not fit into the {len(self)} rows of {self.name!r}"
            )
        if not rest and not is_complete:
            raise DefinitionError(
                f"parts of {', '.join(map(repr, sizes))} leave no row of the {len(self)} of "
                f"{self.name!r} for the last part; make them smaller, or name all parts, such as "
                "split(0.8, 0.2)"
            )
        return [*counts, rest] if rest else counts

    def _count(self, size: float) -> int:
        if isinstance(size, int) and not isinstance(size, bool) and size > 0:
            return size
        if isinstance(size, float) and 0 < size < 1 and (count := round(size * len(self))):
            return count
        if isinstance(size, float) and size > 1 and size.is_integer():
            return int(size)
        raise DefinitionError(
            f"a part of {size!r} of the {len(self)} rows of {self.name!r} has no rows; give a "
            "fraction below 1 or a count from 1"
        )

    def _shuffled(self, seed: int, stratify: str | None) -> list[int]:
        """Return shuffled indexes; if stratified, each prefix has about the overall frequencies."""
        rng = _rng(seed)
        order = list(range(len(self)))
        rng.shuffle(order)
        if stratify is None:
            return order
        column = self.column(stratify)
        groups: dict[str, list[int]] = {}
        for index in order:
            groups.setdefault(str(column[index]), []).append(index)
        positions = [
            (rank + rng.random()) / len(group)
            for group in groups.values()
            for rank in range(len(group))
        ]
        members = [index for group in groups.values() for index in group]
        return [index for _, index in sorted(zip(positions, members, strict=True))]

    def duplicates(self, other: "Dataset", *, fields: Sequence[str] = ()) -> list[tuple[int, int]]:
        """Return (index here, index in `other`) of each row of `other` that is also here.

        Text is compared without case and white space.

        Args:
            other: the dataset to look up here.
            fields: the fields to compare; by default all common ones.
        """
        compared = list(fields) or [name for name in self.fields if name in other.fields]
        first: dict[str, int] = {}
        for number, example in enumerate(self.examples):
            first.setdefault(_key(example, compared), number)
        pairs = [
            (first.get(_key(example, compared)), number)
            for number, example in enumerate(other.examples)
        ]
        return [(row, index) for row, index in pairs if row is not None]


def check_rows(rows: object, what: str = "the rows") -> None:
    """Check that `rows` is a dataset whose values all have a JSON form.

    Raises:
        DefinitionError: the message says how to create a dataset, or which value has no JSON form.
    """
    if not isinstance(rows, Dataset):
        raise DefinitionError(
            f"{what} must be a Dataset, not {type(rows).__name__}; create one with "
            "Dataset.from_rows(rows)"
        )
    _ = rows.checksum


def _rng(seed: int) -> random.Random:
    return random.Random(seed)  # draws rows, keeps no secret


def _key(example: Example, fields: Sequence[str]) -> str:
    values = (example.get(name) for name in fields)
    return content_hash(
        [
            " ".join(value.lower().split()) if isinstance(value, str) else plain(value)
            for value in values
        ]
    )
