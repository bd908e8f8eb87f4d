"""The demonstrations of a predictor: a list that checks what is added to it."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self, SupportsIndex

from dspex.errors import DefinitionError
from dspex.execution.adapters import read_row
from dspex.execution.modules.settings import demos_problem
from dspex.language.signatures import Signature


class Demonstrations(list[dict[str, Any]]):
    """A list of demonstrations, each with inputs and outputs by field name.

    Texts are parsed by the types of `signature`. What is added later, also with `append`,
    `extend`, `insert` and by index, must have fields of the signature.

    Raises:
        DefinitionError: a demonstration has no field of the signature, or misspells one.
    """

    def __init__(self, signature: Signature, demos: Iterable[Mapping[str, Any]]) -> None:
        """Take demonstrations that are checked already."""
        self.signature = signature
        super().__init__(read_row(signature, demo) for demo in demos)

    @classmethod
    def checked(cls, signature: Signature, demos: Iterable[Mapping[str, Any]]) -> Self:
        """Return demonstrations that are checked first."""
        demonstrations = cls(signature, ())
        demonstrations.extend(demos)
        return demonstrations

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy the list with its signature."""
        return type(self), (self.signature, [*self])

    def _read(self, demos: Any) -> list[dict[str, Any]]:
        demos = [*demos] if isinstance(demos, Iterator) else demos
        if expected := demos_problem(self.signature, demos):
            raise DefinitionError(f"`demos` of Predict takes {expected}")
        return [read_row(self.signature, demo) for demo in demos]

    def append(self, demo: Mapping[str, Any], /) -> None:
        """Add a demonstration at the end."""
        super().extend(self._read([demo]))

    def extend(self, demos: Iterable[Mapping[str, Any]], /) -> None:
        """Add demonstrations at the end."""
        super().extend(self._read(demos))

    def insert(self, place: SupportsIndex, demo: Mapping[str, Any], /) -> None:
        """Add a demonstration before a place."""
        super().insert(place, *self._read([demo]))

    def __setitem__(self, place: Any, value: Any, /) -> None:
        """Replace one demonstration, or those of a slice."""
        if isinstance(place, slice):
            super().__setitem__(place, self._read(value))
        else:
            super().__setitem__(place, *self._read([value]))

    def __iadd__(self, demos: Iterable[Mapping[str, Any]], /) -> Self:  # type: ignore[override,misc]
        """Add demonstrations at the end."""
        self.extend(demos)
        return self
