"""Compiles types to core schemas of pydantic-core, once for each mode.

Strictness is part of the compiled schema: pydantic-core's strict mode refuses a dict for an object
of a class, but a contract between processes is about data.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, get_origin

from pydantic_core import core_schema

from dspex.errors import SignatureError
from dspex.language.signatures import cancellable
from dspex.language.signatures.alternatives import ALL, can_be_picked, picker
from dspex.language.signatures.builtin import SHORTHAND, expand
from dspex.language.signatures.instances import as_json, holds_binary
from dspex.language.signatures.kinds import FORMATS
from dspex.language.signatures.names import NAME_LIMIT, key_name
from dspex.language.signatures.patterns import engine_pattern, longest_match
from dspex.language.signatures.records import record_class
from dspex.language.signatures.types import MISSING, Member, Type, is_typed_dict, tag_values
from dspex.language.signatures.values import (
    absent_if_null,
    binary_to_text,
    check_depth,
    check_length,
    check_media_url,
    check_required_keys,
    check_unique,
    fits_schema,
    from_dspy_calls,
    pairs_to_dict,
    pick_atom,
    round_to,
    text_to_binary,
    text_to_cited,
    whole_number,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

Mode = Literal["coerce", "strict"]
Schema = core_schema.CoreSchema
_RENAMED = {
    "min_items": "min_length",
    "max_items": "max_length",
    "min_size": "min_length",
    "max_size": "max_length",
}


class Compiler:
    """Compiles types to core schemas; `finish` adds the definitions of recursive types.

    Schemas of a cancellable compiler need a `CancellableRun` as validation context; see
    `cancellable`.
    """

    def __init__(self, mode: Mode, *, is_cancellable: bool = False) -> None:
        self.is_strict = mode == "strict"
        self._is_cancellable = is_cancellable
        self._definitions: dict[str, Schema] = {}
        self._enclosing: list[tuple[str, str]] = []
        self._referred: set[str] = set()
        self._classes = 0
        self._is_plain = False

    def finish(self, schema: Schema) -> Schema:
        """Return `schema` with the definitions collected so far."""
        if not self._definitions:
            return schema
        return core_schema.definitions_schema(schema, list(self._definitions.values()))

    def compile(self, type_: Type) -> Schema:
        """Return the core schema of one type."""
        expansion = expand(type_)
        if expansion is not type_:
            return self._shorthand(type_.kind, self.compile(expansion))
        if type_.python is not None and type_.kind != "atom" and not is_typed_dict(type_.python):
            return self._python_class(type_)
        method: Callable[[Type], Schema] = getattr(self, f"_{type_.kind}")
        return method(type_)

    def _shorthand(self, kind: str, schema: Schema) -> Schema:
        member = SHORTHAND.get(kind)
        if kind == "Cited" and not self.is_strict:
            return core_schema.no_info_before_validator_function(text_to_cited, schema)
        if member == "url":
            schema = core_schema.no_info_after_validator_function(check_media_url, schema)
        if member is None or self.is_strict:
            return schema

        def expand_shorthand(value: Any) -> Any:
            if isinstance(value, str | list):
                return {member: value}
            return from_dspy_calls(value) if kind == "ToolCalls" else value

        return core_schema.no_info_before_validator_function(expand_shorthand, schema)

    def _str(self, type_: Type) -> Schema:
        rules = dict(type_.constraints)
        format_ = rules.pop("format", None)
        options: dict[str, Any] = {
            **rules,
            "strict": self.is_strict,
            "coerce_numbers_to_str": not self.is_strict,
        }
        schema: Schema = (
            _pattern_schema(options) if "pattern" in rules else core_schema.str_schema(**options)
        )
        if format_ is None:
            return schema
        shape = core_schema.str_schema(pattern=FORMATS[format_], metadata={"format": format_})
        format_schema = core_schema.custom_error_schema(
            shape,
            "format",
            custom_error_message="{problem}",
            custom_error_context={"problem": f"expected a {format_}"},
        )
        return core_schema.chain_schema([schema, format_schema])

    def _int(self, type_: Type) -> Schema:
        schema = self._exact_int(type_)
        return (
            core_schema.no_info_before_validator_function(whole_number, schema)
            if self.is_strict
            else schema
        )

    def _exact_int(self, type_: Type) -> Schema:
        return core_schema.int_schema(**dict(type_.constraints), strict=self.is_strict)

    def _float(self, type_: Type) -> Schema:
        rules = dict(type_.constraints)
        precision = rules.pop("precision", None)
        schema: Schema = core_schema.float_schema(
            **rules, allow_inf_nan=False, strict=self.is_strict
        )
        if precision is not None:
            schema = core_schema.no_info_after_validator_function(
                round_to(precision, is_strict=self.is_strict), schema
            )
        return schema

    def _bool(self, _: Type) -> Schema:
        return core_schema.bool_schema(strict=self.is_strict)

    def _any(self, type_: Type) -> Schema:
        schema = type_.constraint("schema")
        check = check_depth if schema is None else fits_schema(schema)
        return core_schema.no_info_after_validator_function(check, core_schema.any_schema())

    def _none(self, _: Type) -> Schema:
        return core_schema.none_schema()

    def _binary(self, _: Type) -> Schema:
        schema = core_schema.bytes_schema(
            strict=True,
            serialization=core_schema.plain_serializer_function_ser_schema(
                binary_to_text, when_used="json"
            ),
        )
        return (
            schema
            if self.is_strict
            else core_schema.no_info_before_validator_function(text_to_binary, schema)
        )

    def _atom(self, type_: Type) -> Schema:
        values = type_.constraint("one_of")
        if type_.python is None and all(isinstance(value, str) for value in values):
            return core_schema.literal_schema(list(values))
        return core_schema.no_info_plain_validator_function(
            pick_atom(values, python=type_.python, is_strict=self.is_strict)
        )

    def _list(self, type_: Type) -> Schema:
        rules = {_RENAMED.get(name, name): value for name, value in type_.constraints}
        unique = rules.pop("unique", False)
        items = self._item(self.compile(type_.args[0])) if type_.args else core_schema.any_schema()
        # always strict: a lax list iterates over any object; tuples and sets are read as JSON
        schema: Schema = core_schema.list_schema(items, strict=True, **rules)
        return (
            core_schema.no_info_after_validator_function(check_unique, schema) if unique else schema
        )

    def _tuple(self, type_: Type) -> Schema:
        items = [self.compile(arg) for arg in type_.args]
        schema = core_schema.tuple_schema(items)
        if not self.is_strict:
            return schema
        kinds = (list, tuple)
        return core_schema.chain_schema(
            [core_schema.is_instance_schema(kinds, cls_repr="list"), schema]
        )

    def _dict(self, type_: Type) -> Schema:
        rules = {_RENAMED.get(name, name): value for name, value in type_.constraints}
        required = rules.pop("required_keys", ())
        keys, values = (
            (self.compile(arg) for arg in type_.args)
            if type_.args
            else (core_schema.str_schema(strict=True), None)
        )
        if values is not None:
            values = self._item(values)
        schema: Schema = core_schema.dict_schema(keys, values, strict=self.is_strict, **rules)
        if required:
            schema = core_schema.no_info_after_validator_function(
                check_required_keys(required), schema
            )
        return (
            schema
            if self.is_strict
            else core_schema.no_info_before_validator_function(pairs_to_dict, schema)
        )

    def _union(self, type_: Type) -> Schema:
        tag = type_.constraint("tag")
        parts = [arg for arg in type_.args if arg.kind != "none"]
        schema: Schema
        if tag is not None:
            schema = self._tagged_union(parts, tag)
        elif len(parts) == 1:
            schema = self.compile(parts[0])
        else:
            schema = self._alternatives(parts)
        return core_schema.nullable_schema(schema) if len(parts) < len(type_.args) else schema

    def _alternatives(self, parts: list[Type]) -> Schema:
        labels = {str(at): part for at, part in enumerate(parts)}
        schemas = {label: self.compile(part) for label, part in labels.items()}
        last: dict[str, Schema] = {}
        if self.is_strict and any(part.kind == "float" for part in parts):
            # 1.0 is a float if the union has one that accepts it, otherwise an integer
            last = {label: schemas[label] for label, part in labels.items() if part.kind == "int"}
            schemas |= {label: self._exact_int(labels[label]) for label in last}
        if can_be_picked(parts):
            schemas = {label: self._share(schema) for label, schema in schemas.items()}
        ordered: list[Schema | tuple[Schema, str]] = [
            (cancellable.alternative(schema) if self._is_cancellable else schema, label)
            for label, schema in (*schemas.items(), *last.items())
        ]
        whole = core_schema.union_schema(ordered)
        if not can_be_picked(parts):
            return whole
        choices: dict[Hashable, Schema] = {
            label: schemas[label] for label, part in labels.items() if part.members
        }
        return core_schema.tagged_union_schema({**choices, ALL: whole}, picker(labels))

    def _share(self, schema: Schema) -> Schema:
        """Return a reference to a schema that is used in two places."""
        if schema["type"] in {"definition-ref", "str", "int", "bool", "float", "none"}:
            return schema
        ref = f"shared:{len(self._definitions)}"
        self._definitions[ref] = {**schema, "ref": ref}
        return core_schema.definition_reference_schema(ref)

    def _item(self, schema: Schema) -> Schema:
        return cancellable.check_items(schema) if self._is_cancellable else schema

    def _tagged_union(self, parts: list[Type], tag: str) -> Schema:
        choices: dict[Hashable, Schema] = {}
        for part in parts:
            for value in tag_values(part, tag):
                choices[value] = self.compile(part)
        return core_schema.tagged_union_schema(choices, tag, from_attributes=True)

    def _object(self, type_: Type) -> Schema:
        self._classes += 1
        ref = f"{type_.title}:{self._classes}"
        self._enclosing.append((type_.title, ref))
        compiled = [(member, self._member(member)) for member in type_.members]
        self._enclosing.pop()
        is_dict = self._is_plain or is_typed_dict(type_.python)
        schema = self._plain_object(type_, compiled) if is_dict else self._record(type_, compiled)
        if self._is_cancellable and self._extra(type_) == "forbid":
            schema = cancellable.limit_unknown_members(schema, len(type_.members))
        if ref not in self._referred:
            return schema
        self._definitions[ref] = {**schema, "ref": ref}
        return core_schema.definition_reference_schema(ref)

    def _member(self, member: Member) -> Schema:
        schema = self.compile(member.type)
        may_be_absent = (
            not member.is_required and member.default is MISSING and not member.type.is_optional
        )
        if self.is_strict or not may_be_absent or member.type.kind == "any":
            return schema
        return core_schema.no_info_wrap_validator_function(absent_if_null, schema)

    def _aliases(self, member: Member) -> list[list[str | int]] | None:
        """Return the accepted names of a member: when coercing, also its name for providers."""
        if self.is_strict or len(member.name) > NAME_LIMIT or key_name(member.name) == member.name:
            return None
        return [[member.name], [key_name(member.name)]]

    def _record(self, type_: Type, compiled: list[tuple[Member, Schema]]) -> Schema:
        fields = {
            member.name: core_schema.model_field(
                _with_default(member, schema), validation_alias=self._aliases(member)
            )
            for member, schema in compiled
        }
        has_absent = any(
            not member.is_required and member.default is MISSING for member, _ in compiled
        )
        extra = self._extra(type_)
        return core_schema.model_schema(
            record_class(type_.title),
            core_schema.model_fields_schema(fields, extra_behavior=extra),
            post_init="drop_absent" if has_absent else None,
            config={"extra_fields_behavior": extra},  # the serializer reads only this
        )

    def _plain_object(self, type_: Type, compiled: list[tuple[Member, Schema]]) -> Schema:
        fields = {
            member.name: core_schema.typed_dict_field(
                schema, required=member.is_required, validation_alias=self._aliases(member)
            )
            for member, schema in compiled
        }
        return core_schema.typed_dict_schema(fields, extra_behavior=self._extra(type_))

    def _extra(self, type_: Type) -> Literal["allow", "forbid", "ignore"]:
        declared: Literal["allow", "forbid"] | None = type_.constraint("extra")
        return declared or ("forbid" if self.is_strict else "ignore")

    def _ref(self, type_: Type) -> Schema:
        for title, ref in reversed(self._enclosing):
            if title == type_.title:
                self._referred.add(ref)
                return core_schema.definition_reference_schema(ref)
        raise SignatureError(f"{type_.title!r} does not name an enclosing object")

    def _python_class(self, type_: Type) -> Schema:
        """Return a schema that validates with the user's class; its instances pass unchanged.

        In strict mode, or if there are bytes inside, data must fit the declared type first: classes
        decode text as UTF-8 bytes, our types as base64.
        """
        has_bytes = holds_binary(type_)
        if not self.is_strict and not has_bytes:
            class_schema = self._hoist(_class_schema(type_.python))
            return (
                cancellable.summarize_errors(class_schema) if self._is_cancellable else class_schema
            )
        outer, self._is_plain = self._is_plain, True
        shape = self.compile(replace(type_, python=None))
        self._is_plain = outer
        cls = get_origin(type_.python) or type_.python
        if isinstance(cls, type):
            shape = core_schema.no_info_wrap_validator_function(
                lambda value, check: value if isinstance(value, cls) else check(value), shape
            )
        if self._is_plain:
            return shape
        serialization = (
            core_schema.plain_serializer_function_ser_schema(as_json, when_used="json")
            if has_bytes
            else None
        )
        return core_schema.chain_schema(
            [shape, self._hoist(_class_schema(type_.python))], serialization=serialization
        )

    def _hoist(self, schema: Schema) -> Schema:
        """Move definitions to the outermost schema, where pydantic-core expects them."""
        while schema["type"] == "definitions":
            self._definitions |= {part["ref"]: part for part in schema["definitions"]}
            schema = schema["schema"]
        return schema


def _with_default(member: Member, schema: Schema) -> Schema:
    if member.is_required:
        return schema
    if member.default is MISSING:
        return core_schema.with_default_schema(schema, default=MISSING)
    return core_schema.with_default_schema(schema, default=member.default, validate_default=True)


def _class_schema(python: Any) -> Schema:
    """Return pydantic's core schema of a class or annotation."""
    from pydantic import BaseModel, TypeAdapter
    from pydantic.errors import PydanticUndefinedAnnotation, PydanticUserError

    schema: Schema
    try:
        if isinstance(python, type) and issubclass(python, BaseModel):
            if not python.__pydantic_complete__:
                python.model_rebuild()
            schema = python.__pydantic_core_schema__
        else:
            schema = TypeAdapter(python).core_schema
    except (PydanticUserError, PydanticUndefinedAnnotation, NameError) as error:
        raise SignatureError(f"pydantic cannot validate {python!r}: {error}") from error
    return schema


def _pattern_schema(options: dict[str, Any]) -> Schema:
    """Return the schema of a text with a pattern, with a length limit if matching could be slow."""
    longest = longest_match(options["pattern"])
    pattern = engine_pattern(options.pop("pattern"))
    if longest is None or longest >= options.get("max_length", longest + 1):
        return core_schema.str_schema(**options, pattern=pattern)
    short = core_schema.no_info_after_validator_function(
        check_length(longest), core_schema.str_schema(**options)
    )
    return core_schema.chain_schema([short, core_schema.str_schema(pattern=pattern)])
