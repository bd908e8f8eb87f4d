"""Values of object types without a Python class, such as types rebuilt from data."""

from collections.abc import Iterator
from typing import Any

from dspex.language.signatures.types import MISSING


class Record:
    """An object with members by attribute (`person.name`) and by key (`person["name"]`)."""

    # pydantic-core writes to these slots
    __slots__ = (
        "__dict__",
        "__pydantic_extra__",
        "__pydantic_fields_set__",
        "__pydantic_private__",
    )

    def __getitem__(self, name: str) -> Any:
        return self.to_dict()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.to_dict())

    def __contains__(self, name: object) -> bool:
        return name in self.to_dict()

    def __len__(self) -> int:
        return len(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """Return the members by name; nested values are not converted."""
        return {**self.__dict__, **(getattr(self, "__pydantic_extra__", None) or {})}

    def drop_absent(self, _: object) -> None:
        """Remove the members without value or default; pydantic-core calls this."""
        for name in [name for name, value in self.__dict__.items() if value is MISSING]:
            del self.__dict__[name]

    def keys(self) -> Iterator[str]:
        """Return the names of the members, so that `dict(record)` works."""
        return iter(self.to_dict())

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Record):
            return type(self).__name__ == type(other).__name__ and self.to_dict() == other.to_dict()
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        members = ", ".join(f"{name}={value!r}" for name, value in self.to_dict().items())
        return f"{type(self).__name__}({members})"


def record_class(title: str) -> type[Record]:
    """Return a new class of records, named `title`."""
    from pydantic_core import SchemaSerializer, core_schema

    whole = core_schema.plain_serializer_function_ser_schema(Record.to_dict)
    serializer = SchemaSerializer(core_schema.any_schema(serialization=whole))
    return type(
        title or "Object", (Record,), {"__slots__": (), "__pydantic_serializer__": serializer}
    )
