"""One row of data: values by field name."""

from collections.abc import Iterator, Mapping


class Example(Mapping[str, object]):
    """A frozen mapping from field name to value: a demonstration, or a row of a dataset.

    The signature decides which fields are inputs; extra fields are ignored.
    """

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, object] | None = None, /, **fields: object) -> None:
        """Take the values as a mapping, as keyword arguments, or both."""
        self._values: dict[str, object] = {**(values or {}), **fields}

    def __getitem__(self, name: str) -> object:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mapping) and self._values == dict(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Example({', '.join(f'{name}={value!r}' for name, value in self._values.items())})"

    def to_dict(self) -> dict[str, object]:
        """Return the values as a new dict."""
        return dict(self._values)
