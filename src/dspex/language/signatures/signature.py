"""The contract that a module fulfils: named, typed inputs and outputs, and instructions."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property, lru_cache
from types import SimpleNamespace
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Generic,
    ParamSpec,
    Protocol,
    Self,
    TypeVar,
    Union,
    Unpack,
    cast,
)

from dspex.errors import SignatureError, suggest
from dspex.language.signatures.annotations import from_annotation
from dspex.language.signatures.checks import check_fields, default_instructions
from dspex.language.signatures.codec import FORMAT, fields_from_dicts, fields_to_dicts
from dspex.language.signatures.conditions import FieldCheck
from dspex.language.signatures.declaration import declared_fields
from dspex.language.signatures.editing import FieldOptions, create_field, field_summary, update_field
from dspex.language.signatures.field import Field, Role
from dspex.language.signatures.grammar import parse
from dspex.language.signatures.tokens import fail
from dspex.language.signatures.validation import Mode, Validator

if TYPE_CHECKING:
    from pydantic import BaseModel

P = ParamSpec("P")
R = TypeVar("R")
SignatureLike = Union["Signature", "type[Signature]", str]


class ValidateFunction(Protocol):
    """Returns values as the types of one side of a signature say; see `Validator.__call__`."""

    def __call__(self, values: Mapping[str, Any], *, mode: Mode = "coerce") -> dict[str, Any]:
        """Return the values, or raise an `InvalidError` that tells all that is wrong with them."""
        ...


class _Operation(Generic[P, R]):
    """Makes a method written for instances work on signature classes too: `QA.with_instructions("...")`."""

    def __init__(self, function: "Callable[Concatenate[Signature, P], R]") -> None:
        self.function = function
        self.__doc__ = function.__doc__

    def __get__(self, instance: "Signature | None", owner: "type[Signature]") -> Callable[P, R]:
        value = instance if instance is not None else _declared_signature(owner)
        return self.function.__get__(value, type(value))  # type: ignore[no-any-return]


class _View(Generic[R]):
    """The same for values without arguments: `QA.input_fields`. Computed once for each signature."""

    def __init__(self, function: "Callable[[Signature], R]") -> None:
        self.function = function
        self.name = function.__name__
        self.__doc__ = function.__doc__

    def __get__(self, instance: "Signature | None", owner: "type[Signature]") -> R:
        value = (
            instance
            if instance is not None
            else owner.__dict__.get("__signature_value__") or _declared_signature(owner)
        )
        try:
            return value.__dict__[self.name]  # type: ignore[no-any-return]
        except KeyError:
            return value.__dict__.setdefault(self.name, self.function(value))  # type: ignore[no-any-return]


def _declared_signature(owner: "type[Signature]") -> "Signature":
    value = owner.__dict__.get("__signature_value__")
    if not isinstance(value, Signature):
        raise SignatureError("Signature itself has no fields: subclass it, or write Signature('question -> answer')")
    return value


@lru_cache(maxsize=1024)
def _parse_cached(text: str) -> "Signature":
    """Parse, and later compile, each text once: a signature is immutable and can be shared."""
    return Signature(text)


class Signature:
    """An immutable value: a name, fields and instructions.

    Three ways to one: `Signature("question -> answer", "Answer briefly.")`, a class body (a bare annotation is an
    input, `Output()` marks an output, the docstring is the instructions), or an operation on another signature.
    Whatever takes a signature takes any of `Signature | type[Signature] | str`, through `Signature.of`.

    Raises:
        SignatureError: the declaration is wrong; the message says where, why, and what a right one looks like.
    """

    __signature_value__: "Signature"

    def __init__(
        self, text: str, instructions: str = "", *, name: str = "", types: Mapping[str, Any] | None = None
    ) -> None:
        """Parse the string form; without instructions, a sentence that names the fields stands in.

        Args:
            text: the string form; `docs/signatures.md` teaches it.
            instructions: what the model is told to do.
            name: what the signature is called.
            types: further types that `text` may name, each an annotation, the text of a type, or a `Type`.
        """
        if not isinstance(text, str):
            raise SignatureError(f"expected the string form, such as 'question -> answer', not {text!r}")
        parsed = parse(text, {word: from_annotation(hint) for word, hint in (types or {}).items()})
        try:
            self._initialize(name or parsed.name or _NAMELESS, parsed.fields, instructions or parsed.instructions)
        except SignatureError as error:
            at = error.context.get("field")
            if isinstance(at, int):
                fail(text, parsed.columns[at], error.message, context=error.context)
            raise

    def __init_subclass__(cls, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init_subclass__(**kwargs)
        parents = [Signature.of(base) for base in cls.__bases__ if "__signature_value__" in base.__dict__]
        fields = {field.name: field for parent in parents for field in parent.fields.values()}
        fields |= {field.name: field for field in declared_fields(cls)}
        inherited = parents[0]._parts[2] if parents else ""  # noqa: SLF001  # what was written, not the stand-in
        cls.__signature_value__ = Signature.from_fields(
            cls.__name__, fields.values(), cls.__dict__.get("__doc__") or inherited
        )

    @classmethod
    def from_fields(cls, name: str, fields: Iterable[Field], instructions: str = "") -> "Signature":
        """Return the signature with these parts, checked."""
        value = Signature.__new__(Signature)
        value._initialize(name, tuple(fields), instructions)  # noqa: SLF001  # a second constructor
        return value

    @classmethod
    def of(cls, signature: SignatureLike) -> "Signature":
        """Return the value behind an instance, a class or the string form."""
        if isinstance(signature, Signature):
            return signature
        if isinstance(signature, str):
            return _parse_cached(signature)
        if isinstance(signature, type) and issubclass(signature, Signature):
            return _declared_signature(signature)
        raise SignatureError(
            f"expected a Signature, a subclass of it or a string such as 'question -> answer', not {signature!r}"
        )

    def _initialize(self, name: str, fields: tuple[Field, ...], instructions: str) -> None:
        ordered = tuple(field for role in ("input", "output") for field in fields if field.role == role)
        if ordered != fields:  # an error names a field by its place in the text
            check_fields(name, fields, reserved=_RESERVED)
        ordered = check_fields(name, ordered, reserved=_RESERVED)
        text = inspect.cleandoc(instructions)
        usual = default_instructions(ordered)
        self.__dict__["_parts"] = (name, ordered, "" if text in {usual, inspect.cleandoc(usual)} else text)

    def _replace(self, fields: Iterable[Field] | None = None, instructions: str | None = None) -> "Signature":
        """Return a variant; what was compiled for a side that stays the same is shared."""
        name, current_fields, text = self._parts
        value = Signature.from_fields(
            name, current_fields if fields is None else fields, text if instructions is None else instructions
        )
        for side in ("input", "output"):
            validator: Validator = getattr(self, f"{side}_validator")
            if validator.validates(getattr(value, f"{side}_fields").values()):
                value.__dict__[f"{side}_validator"] = validator
        return value

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(
            f"a signature is immutable: {name!r} cannot be set; use an operation such as with_instructions"
        )

    @_View
    def name(self) -> str:
        """What the signature is called, in errors and in stores."""
        return self._parts[0]

    @_View
    def fields(self) -> dict[str, Field]:
        """All fields by name, inputs first."""
        return {field.name: field for field in self._parts[1]}

    @_View
    def instructions(self) -> str:
        """What the model is told to do."""
        return self._parts[2] or default_instructions(self._parts[1])

    @_View
    def input_fields(self) -> dict[str, Field]:
        """The inputs by name, in order."""
        return {name: field for name, field in self.fields.items() if field.role == "input"}

    @_View
    def output_fields(self) -> dict[str, Field]:
        """The outputs by name, in order."""
        return {name: field for name, field in self.fields.items() if field.role == "output"}

    @_View
    def input_validator(self) -> Validator:
        """The compiled validator of the inputs."""
        return Validator(f"the inputs of {self.name!r}", list(self.input_fields.values()))

    @_View
    def output_validator(self) -> Validator:
        """The compiled validator of the outputs."""
        return Validator(f"the outputs of {self.name!r}", list(self.output_fields.values()))

    @_View
    def output_checks(self) -> tuple[tuple[str, FieldCheck], ...]:
        """What the values of outputs have to hold up to: (field, check) pairs."""
        return tuple((name, check) for name, field in self.output_fields.items() for check in field.checks)

    @_View
    def content_hash(self) -> str:
        """BLAKE2b-256 over the canonical JSON of `to_dict()`, without the name: the same contract, the same hash."""
        from dspex.language.records.canonical import content_hash

        return content_hash({key: value for key, value in self.to_dict().items() if key != "name"})

    @_View
    def validate_inputs(self) -> ValidateFunction:
        """Return `values` as the inputs' types say; see `Validator.__call__`."""
        return self.input_validator.checker()

    @_View
    def validate_outputs(self) -> ValidateFunction:
        """Return `values` as the outputs' types say; see `Validator.__call__`."""
        return self.output_validator.checker()

    @classmethod
    def typed_outputs(cls, values: Mapping[str, Any]) -> Self:
        """Return the outputs, coerced, as attributes that a type checker knows by the annotations of the class.

        `QA.typed_outputs(prediction).answer` is a `str` to it. At run time this is a plain namespace.
        """
        value = _declared_signature(cls)
        outputs = value.validate_outputs({name: values[name] for name in value.output_fields if name in values})
        return cast("Self", SimpleNamespace(**outputs))

    @_Operation
    def with_instructions(self, instructions: str) -> "Signature":
        """Return the signature with other instructions; with none, the sentence that names the fields."""
        return self._replace(instructions=instructions)

    @_Operation
    def append(self, name: str, type_: Any = str, **options: Unpack[FieldOptions]) -> "Signature":  # noqa: ANN401
        """Return the signature with one more field, the last of its role. `type_` is an annotation or type text.

        `options` are `role` ("output" unless said), `desc`, `default`, `alias`, `constraints`, `check` and `suggest`.
        """
        return self._replace([*self.fields.values(), create_field(name, type_, options)])

    @_Operation
    def prepend(self, name: str, type_: Any = str, **options: Unpack[FieldOptions]) -> "Signature":  # noqa: ANN401
        """Return the signature with one more field, the first of its role; the arguments are those of `append`."""
        return self._replace([create_field(name, type_, options), *self.fields.values()])

    @_Operation
    def insert(self, index: int, name: str, type_: Any = str, **options: Unpack[FieldOptions]) -> "Signature":  # noqa: ANN401
        """Return the signature with one more field, at `index` among those of its role (negative: from the end)."""
        new_field = create_field(name, type_, options)
        same = [field for field in self.fields.values() if field.role == new_field.role]
        if not -len(same) - 1 <= index <= len(same):
            raise SignatureError(
                f"signature {self.name!r} has {len(same)} {new_field.role} fields; "
                f"{name!r} cannot be inserted at {index}"
            )
        same.insert(index if index >= 0 else len(same) + 1 + index, new_field)
        return self._replace([*same, *(field for field in self.fields.values() if field.role != new_field.role)])

    @_Operation
    def remove(self, name: str) -> "Signature":
        """Return the signature without one field."""
        self._check_field(name)
        return self._replace([field for field in self.fields.values() if field.name != name])

    @_Operation
    def with_field(self, name: str, type_: Any = None, **options: Unpack[FieldOptions]) -> "Signature":  # noqa: ANN401
        """Return the signature with one field changed in place: its type where given, and what `options` say.

        `default=dspex.MISSING` takes a default away.
        """
        self._check_field(name)
        changed = update_field(self.fields[name], type_, options)
        return self._replace([changed if field.name == name else field for field in self.fields.values()])

    @_Operation
    def extend(self, other: SignatureLike) -> "Signature":
        """Return the signature with the fields of `other` behind its own; no name may stand in both."""
        return self._replace([*self.fields.values(), *Signature.of(other).fields.values()])

    @_Operation
    def merge(self, other: SignatureLike) -> "Signature":
        """Return the signature with the fields of both; one that both have must have the same type and role in both.

        The instructions are this signature's, or those of `other` where this one has none of its own.
        """
        right = Signature.of(other)
        fields = dict(self.fields)
        for name, field in right.fields.items():
            existing = fields.setdefault(name, field)
            if (existing.type, existing.role) != (field.type, field.role):
                raise SignatureError(
                    f"{self.name!r} and {right.name!r} disagree about field {name!r}: {field_summary(existing)} here, "
                    f"{field_summary(field)} there; rename one, or take one out with remove({name!r})"
                )
        return self._replace(fields.values(), self._parts[2] or right._parts[2])  # noqa: SLF001  # of its own class

    def _check_field(self, name: str) -> None:
        if name not in self.fields:
            raise SignatureError(
                f"signature {self.name!r} has no field {name!r}.{suggest(name, list(self.fields))} "
                f"Its fields are: {', '.join(self.fields)}"
            )

    @_Operation
    def to_json_schema(
        self, provider: str = "generic", *, purpose: str = "outputs", strict: bool | None = None
    ) -> dict[str, Any]:
        """Return the schema that `provider` wants of this signature.

        Args:
            provider: "generic" (JSON Schema 2020-12), "openai" (strict form), "anthropic", "gemini" or "mcp".
            purpose: "inputs" or "outputs" for the bare schema of one side, properties under their wire names; "tool"
                for the provider's whole tool definition over the inputs; "structured" for the part of a request that
                asks for the outputs.
            strict: for "openai" alone. True: strict form, or an error where it cannot say what a field holds (any
                value, a free mapping). False: the form that is not strict, which says everything and binds the model
                to nothing. By default strict form; a tool or a request falls back to the other, and its `strict` says
                so.

        Raises:
            SignatureError: the provider has no way to say what a field holds; the message names the field and why.
        """
        from dspex.language.signatures.providers import copy_json, provider_schema

        schemas: dict[tuple[str, str, bool | None], dict[str, Any]] = self.__dict__.setdefault("_schemas", {})
        key = (provider, purpose, strict)
        if key not in schemas:
            schemas[key] = provider_schema(
                self.name, self.instructions, self.fields, provider=provider, purpose=purpose, strict=strict
            )
        schema: dict[str, Any] = copy_json(schemas[key])
        return schema

    @_Operation
    def to_dict(self) -> dict[str, Any]:
        """Return the whole signature as JSON-ready data, from which `from_dict` rebuilds an equal one with no code.

        A check, which is code, goes by its import path; `build` loads it from the code root.
        """
        return {
            "format": FORMAT,
            "name": self.name,
            "instructions": self.instructions,
            "fields": fields_to_dicts(self.fields),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Signature":
        """Read what `to_dict` wrote.

        Raises:
            SignatureError: it was not written by it, or by a version that knew more.
        """
        if not isinstance(data, Mapping) or not {"name", "fields"} <= data.keys():
            raise SignatureError("this is no stored signature: expected an object with name, instructions and fields")
        if data.get("format", FORMAT) != FORMAT:
            raise SignatureError(f"a stored signature of format {data['format']!r}; this version reads {FORMAT}")
        name, instructions = data["name"], data.get("instructions", "")
        if not isinstance(name, str) or not isinstance(instructions, str):
            raise SignatureError("this is no stored signature: name and instructions are texts")
        return Signature.from_fields(name, fields_from_dicts(data["fields"]), instructions)

    @classmethod
    def from_json_schema(  # noqa: PLR0913
        cls,
        schema: Mapping[str, Any] | bool,  # noqa: FBT001
        *,
        name: str = "",
        role: Role = "output",
        instructions: str = "",
        foreign: Mapping[str, str] | None = None,
        resources: Mapping[str, Any] | None = None,
        field: str = "",
    ) -> "Signature":
        """Return a signature whose fields are the properties of an object schema, or the parameters of a tool.

        A schema of anything else, or with rules for several properties together, becomes one field, `value`. A rule
        that no type holds is checked as it is written, by a type `any[schema=...]`.

        Args:
            schema: the schema of an object, or a tool definition as OpenAI, Anthropic, Gemini or MCP write it. The
                parameters of a tool become inputs, with one output `result` of any type.
            name: what the signature is called; else the tool's name, or the schema's title.
            role: what the properties of a bare schema become. As inputs they get that same output `result`.
            instructions: what the model is told to do; else the description.
            foreign: type words beyond JSON Schema's and what they mean, such as `reading.FOREIGN_TYPES`.
            resources: further schemas that references lead to, by URI; nothing is ever fetched.
            field: read the whole as one field of this name.

        Raises:
            SignatureError: it is not a schema, refers to something outside, or has a rule that cannot be checked.
        """
        from dspex.language.signatures.importing import schema_fields, tool_parts

        if not isinstance(schema, Mapping | bool):
            raise SignatureError(f"expected a schema, an object, not {schema!r:.200}")
        texts: Mapping[str, Any] = {} if isinstance(schema, bool) else schema
        tool = tool_parts(texts)
        inner, title, description = tool or (schema, str(texts.get("title", "")), str(texts.get("description", "")))
        side: Role = "input" if tool else role
        fields = schema_fields(
            inner,
            side,
            reserved=_RESERVED,
            foreign=foreign,
            resources=resources,
            field=field,
            is_tool=tool is not None,
        )
        if side == "input":
            output_name = "result" if all(field.wire_name != "result" for field in fields) else "result_"
            fields.append(Field(name=output_name, type=from_annotation(Any), role="output"))
        return Signature.from_fields(name or title or _NAMELESS, fields, instructions or description)

    @classmethod
    def from_pydantic(
        cls, model: "type[BaseModel]", *, name: str = "", role: Role = "output", instructions: str = ""
    ) -> "Signature":
        """Return a signature whose fields are those of a pydantic model (or dataclass, or TypedDict).

        Values of nested models stay instances of their classes. As inputs, they get one output `result` of any type.
        """
        from dspex.language.signatures.importing import member_fields
        from dspex.language.signatures.types import standalone_members

        type_ = from_annotation(model)
        if type_.kind != "object":
            raise SignatureError(f"{model!r} has no fields to make a signature of")
        fields = member_fields(standalone_members(type_), role, reserved=_RESERVED)
        if role == "input":
            fields.append(Field(name="result", type=from_annotation(Any), role="output"))
        text = instructions or model.__dict__.get("__doc__") or ""
        return Signature.from_fields(name or type_.title, fields, text)

    @classmethod
    def from_function(cls, function: Callable[..., Any], *, name: str = "") -> "Signature":
        """Return the signature of a typed function: parameters in, return out, the docstring as the instructions.

        A return annotation that is a model, a dataclass or a TypedDict gives one output for each member, any other the
        single output `result`. What a Google-form docstring says of an argument describes its field.
        """
        from dspex.language.signatures.importing import function_parts

        fields, text = function_parts(function)
        return Signature.from_fields(name or function.__name__, fields, text)

    def __copy__(self) -> "Signature":
        return self

    def __deepcopy__(self, _: object) -> "Signature":
        return self

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Signature) and self._parts == other._parts

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash(self.content_hash)

    @_View
    def _parts(self) -> tuple[str, tuple[Field, ...], str]:
        raise AttributeError("the signature is not initialised")

    def __repr__(self) -> str:
        return f"<Signature {self.name}: {self}>"

    def __str__(self) -> str:
        """Return the string form; the grammar reads an equal signature back."""
        from dspex.language.signatures.rendering import signature_text

        name, fields, instructions = self._parts
        return signature_text("" if name == _NAMELESS else name, fields, instructions=instructions)


_NAMELESS = "Signature"
_RESERVED = frozenset(name for name in vars(Signature) if not name.startswith("_")) - {"name"}
