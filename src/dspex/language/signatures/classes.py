"""Object types of pydantic models, dataclasses, TypedDicts and other classes known to pydantic."""

import dataclasses
import inspect
from collections.abc import Iterator
from typing import Any, NotRequired, Protocol, Required, get_args, get_origin, get_type_hints

from dspex.errors import SignatureError
from dspex.language.signatures.types import MISSING, Member, Type, object_type

_DEPTH = 50


class MemberReader(Protocol):
    """Reads the annotations of members.

    `enclosing` has the classes around them and their titles.
    """

    enclosing: list[tuple[type, str]]

    def read(self, hint: Any) -> Type:
        """Return the type for `hint`."""
        ...

    def with_metadata(self, hint: Any, metadata: tuple[Any, ...]) -> Type:
        """Return the type for `hint`, with the constraints of `metadata`."""
        ...


def is_model(hint: object) -> bool:
    """Whether `hint` is a pydantic model class or a dataclass."""
    if not isinstance(hint, type):
        return False
    return (
        hasattr(hint, "__pydantic_core_schema__")
        or hasattr(hint, "model_fields")
        or dataclasses.is_dataclass(hint)
    )


def class_type(hint: Any, reader: MemberReader) -> Type:
    """Return the object type of a class, or a `ref` if the class occurs inside itself."""
    for enclosing_class, title in reader.enclosing:
        if enclosing_class is hint:
            return Type("ref", title=title)
    if len(reader.enclosing) >= _DEPTH:
        raise SignatureError(f"{hint.__name__} is nested more than {_DEPTH} levels deep")
    title = _title(hint, [title for _, title in reader.enclosing])
    if getattr(hint, "__pydantic_root_model__", False):
        return dataclasses.replace(reader.read(hint.model_fields["root"].annotation), python=hint)
    reader.enclosing.append((hint, title))
    try:
        members = tuple(_members(hint, reader))
    finally:
        reader.enclosing.pop()
    return object_type(title, members, constraints=_extra(hint), python=hint)


def _title(hint: type, titles: list[str]) -> str:
    """Return a class's name as a word of the grammar, different from the enclosing titles."""
    plain = "".join(char if char.isalnum() or char == "_" else "_" for char in hint.__name__)
    title, number = plain, 2
    while title in titles:
        title, number = f"{plain}{number}", number + 1
    return title


def _extra(hint: Any) -> dict[str, str]:
    config = getattr(hint, "model_config", None) or getattr(hint, "__pydantic_config__", None) or {}
    extra = config.get("extra")
    return {"extra": extra} if extra in {"allow", "forbid"} else {}


def _members(hint: Any, reader: MemberReader) -> Iterator[Member]:
    if hasattr(hint, "model_fields"):
        return _model_members(hint, reader)
    if dataclasses.is_dataclass(hint):
        return _dataclass_members(hint, reader)
    return _typed_dict_members(hint, reader)


def _model_members(model: Any, reader: MemberReader) -> Iterator[Member]:
    if not model.__pydantic_complete__:
        model.model_rebuild(raise_errors=False)
    for name, info in model.model_fields.items():
        metadata = (*info.metadata, info) if info.discriminator else tuple(info.metadata)
        type_ = reader.with_metadata(info.annotation, metadata)
        factory = info.default_factory
        default = _stable_default(factory) if factory is not None else info.default
        yield _member(
            _alias(info) or name,
            type_,
            info.description or "",
            required=info.is_required(),
            default=default,
        )


def _dataclass_members(cls: Any, reader: MemberReader) -> Iterator[Member]:
    hints = _hints(cls)
    for item in dataclasses.fields(cls):
        if not item.init:
            continue
        has_factory = item.default_factory is not dataclasses.MISSING
        required = item.default is dataclasses.MISSING and not has_factory
        default = _stable_default(item.default_factory) if has_factory else item.default
        desc = str(item.metadata.get("description", ""))
        yield _member(
            item.name, reader.read(hints[item.name]), desc, required=required, default=default
        )


def _typed_dict_members(cls: Any, reader: MemberReader) -> Iterator[Member]:
    for name, hint in _hints(cls).items():
        inner = get_args(hint)[0] if get_origin(hint) in {NotRequired, Required} else hint
        yield _member(
            name, reader.read(inner), "", required=name in cls.__required_keys__, default=MISSING
        )


def members_by_name(value: Any) -> dict[str, Any]:
    """Return the members of a model, dataclass or mapping by their names in its object type."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            item.name: getattr(value, item.name) for item in dataclasses.fields(value) if item.init
        }
    if hasattr(type(value), "model_fields"):
        names = {name: _alias(info) or name for name, info in type(value).model_fields.items()}
        return {names.get(name, name): part for name, part in value}  # undeclared members included
    return dict(value)


def _alias(info: Any) -> str | None:
    alias: str | None = (
        info.validation_alias if isinstance(info.validation_alias, str) else info.alias
    )
    return alias


def _hints(cls: Any) -> dict[str, Any]:
    try:
        return get_type_hints(cls, include_extras=True, localns={cls.__name__: cls})
    except NameError as error:
        raise SignatureError(
            f"{cls.__name__}: the annotation {error.name!r} is not defined in the scope of the "
            "class"
        ) from None


def _member(name: str, type_: Type, desc: str, *, required: bool, default: Any) -> Member:
    if required:
        return Member(name, type_, inspect.cleandoc(desc))
    return Member(name, type_, inspect.cleandoc(desc), is_required=False, default=_plain(default))


def _stable_default(factory: Any) -> Any:
    """Return what a default factory makes, or MISSING if it makes a different value each time."""
    try:
        first, second = _plain(factory()), _plain(factory())
    except Exception:  # noqa: BLE001  # the factory may need the other values, or raise anything
        return MISSING
    return first if first == second else MISSING


def _plain(value: Any) -> Any:
    if value is MISSING or value is None or type(value) in {str, int, float, bool}:
        return value
    from pydantic_core import to_jsonable_python

    return to_jsonable_python(value)


def type_from_schema(hint: Any) -> Type | None:
    """Return the type of pydantic's JSON Schema for `hint`, or None if it has none."""
    from pydantic import TypeAdapter
    from pydantic.errors import (
        PydanticInvalidForJsonSchema,
        PydanticSchemaGenerationError,
        PydanticUserError,
    )

    from dspex.language.signatures.schema_reader import SchemaReader

    try:
        schema = TypeAdapter(hint).json_schema()
    except (PydanticSchemaGenerationError, PydanticInvalidForJsonSchema, PydanticUserError):
        return None
    try:
        type_ = SchemaReader(schema).root_type()
    except SignatureError:  # a pattern that only pydantic can match
        type_ = SchemaReader(_without_patterns(schema)).root_type()
    return dataclasses.replace(type_, python=hint)


def _without_patterns(schema: Any) -> Any:
    from dspex.language.signatures.schema_keywords import with_subschemas

    if not isinstance(schema, dict):
        return schema
    result = with_subschemas(
        {key: value for key, value in schema.items() if key != "pattern"}, _without_patterns
    )
    if "$defs" in result:
        result["$defs"] = {name: _without_patterns(part) for name, part in result["$defs"].items()}
    return result
