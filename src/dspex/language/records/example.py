"""One row of data: values by field name."""

from collections.abc import ItemsView, Iterator, Mapping
from typing import Any

from dspex.language.records.missing_field import missing_field
from dspex.notebook import lazy_html


class Example(Mapping[str, object]):
    """Values by attribute (`row.team`) and by key (`row["team"]`): a row, or a demonstration.

    It is frozen. The signature decides which fields are inputs; extra fields are ignored. A field
    with the name of an attribute of this class (`keys`, `values`, `items`, `get`, `to_dict`) is
    available by key alone.
    """

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, object] | None = None, /, **fields: object) -> None:
        """Take the values as a mapping, as keyword arguments, or both."""
        self._values: dict[str, object] = {**(values or {}), **fields}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self._values[name]
        except KeyError:
            raise AttributeError(missing_field("example", name, self._values)) from None

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._values]

    def _ipython_key_completions_(self) -> list[str]:
        return list(self._values)

    def __getitem__(self, name: str) -> object:
        try:
            return self._values[name]
        except KeyError:
            raise KeyError(missing_field("example", str(name), self._values)) from None

    def get(self, name: str, default: Any = None, /) -> Any:
        """Return a field, or a default."""
        return self._values.get(name, default)

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def items(self) -> ItemsView[str, object]:
        """Return the fields with their values."""
        return self._values.items()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mapping) and self._values == dict(other)

    __hash__ = None  # type: ignore[assignment]

    _repr_html_ = lazy_html("dspex.language.records.representation:example_html")

    def __repr__(self) -> str:
        return f"Example({', '.join(f'{name}={value!r}' for name, value in self._values.items())})"

    def to_dict(self) -> dict[str, object]:
        """Return the values as a new dict."""
        return dict(self._values)
