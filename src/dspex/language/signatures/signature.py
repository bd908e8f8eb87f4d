"""The contract of a module: named, typed inputs and outputs, and instructions."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Protocol, Self, Union, Unpack, cast

from dspex.error_text import suggest
from dspex.errors import SignatureError
from dspex.language.signatures.annotations import from_annotation
from dspex.language.signatures.checks import check_fields, clean_instructions, default_instructions
from dspex.language.signatures.codec import FORMAT, fields_to_dicts, parts_from_dict
from dspex.language.signatures.conditions import FieldCheck
from dspex.language.signatures.declaration import declared_fields
from dspex.language.signatures.descriptors import (
    SignatureMethod,
    SignatureProperty,
    declared_signature,
)
from dspex.language.signatures.field import Field, Role
from dspex.language.signatures.field_options import (
    FieldOptions,
    create_field,
    field_summary,
    update_field,
)
from dspex.language.signatures.grammar import parse
from dspex.language.signatures.tokens import fail
from dspex.language.signatures.validation import Mode, Validator
from dspex.notebook import lazy_html

if TYPE_CHECKING:
    from pydantic import BaseModel

SignatureLike = Union["Signature", "type[Signature]", str]


class ValidateFunction(Protocol):
    """Validates the values of one side of a signature; see `Validator.__call__`."""

    def __call__(self, values: Mapping[str, Any], *, mode: Mode = "coerce") -> dict[str, Any]:
        """Return the validated values, or raise `InputError` with all their errors."""
        ...


@lru_cache(maxsize=1024)
def _parse_cached(text: str) -> "Signature":
    """Return the shared signature for `text`, so that each text is parsed and compiled once."""
    return Signature(text)


class Signature:
    """An immutable value: a name, fields and instructions.

    Create one with `Signature("question -> answer", "Answer briefly.")`, with a class body (a bare
    annotation is an input, `Output()` marks an output, the docstring is the instructions), or with
    an operation on another signature. Parameters for signatures accept
    `Signature | type[Signature] | str`, converted by `Signature.of`.

    Raises:
        SignatureError: the declaration is wrong; the message says where and why, and how to fix it.
    """

    __signature_value__: "Signature"

    def __init__(
        self,
        text: str,
        instructions: str = "",
        *,
        name: str = "",
        types: Mapping[str, Any] | None = None,
    ) -> None:
        """Parse the string form; the default instructions are a sentence that names the fields.

        Args:
            text: the string form; see `docs/signatures.md`.
            instructions: what the model should do.
            name: the name of the signature.
            types: additional types for `text` by name: an annotation, the text of a type, or a
                `Type`.
        """
        if not isinstance(text, str):
            raise SignatureError(
                f"expected the string form, such as 'question -> answer', not {text!r}"
            )
        parsed = parse(text, {word: from_annotation(hint) for word, hint in (types or {}).items()})
        try:
            self._initialize(
                name or parsed.name or UNNAMED, parsed.fields, instructions or parsed.instructions
            )
        except SignatureError as error:
            at = error.context.get("field")
            if isinstance(at, int):
                fail(text, parsed.columns[at], error)
            raise

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        parents = [
            Signature.of(base) for base in cls.__bases__ if "__signature_value__" in base.__dict__
        ]
        fields = {field.name: field for parent in parents for field in parent.fields.values()}
        fields |= {field.name: field for field in declared_fields(cls)}
        # the declared instructions, not the default
        inherited = parents[0]._parts[2] if parents else ""  # noqa: SLF001
        cls.__signature_value__ = Signature.from_fields(
            cls.__name__, fields.values(), cls.__dict__.get("__doc__") or inherited
        )

    @classmethod
    def from_fields(cls, name: str, fields: Iterable[Field], instructions: str = "") -> "Signature":
        """Check these parts and return a signature of them."""
        value = Signature.__new__(Signature)
        value._initialize(name, tuple(fields), instructions)  # noqa: SLF001  # a second constructor
        return value

    @classmethod
    def of(cls, signature: SignatureLike) -> "Signature":
        """Return the signature for an instance, a class or the string form."""
        if isinstance(signature, Signature):
            return signature
        if isinstance(signature, str):
            return _parse_cached(signature)
        if isinstance(signature, type) and issubclass(signature, Signature):
            return declared_signature(signature)
        raise SignatureError(
            "expected a Signature, a subclass of it or a string such as 'question -> answer', not "
            f"{signature!r}"
        )

    def _initialize(self, name: str, fields: tuple[Field, ...], instructions: str) -> None:
        ordered = tuple(
            field for role in ("input", "output") for field in fields if field.role == role
        )
        if ordered != fields:  # errors give the index of a field in the text
            check_fields(name, fields, reserved=_RESERVED)
        ordered = check_fields(name, ordered, reserved=_RESERVED)
        text = clean_instructions(name, instructions)
        usual = default_instructions(ordered)
        self.__dict__["_parts"] = (
            name,
            ordered,
            "" if text in {usual, inspect.cleandoc(usual)} else text,
        )

    def _replace(
        self, fields: Iterable[Field] | None = None, instructions: str | None = None
    ) -> "Signature":
        """Return a variant that shares the compiled validators of unchanged sides."""
        name, current_fields, text = self._parts
        value = Signature.from_fields(
            name,
            current_fields if fields is None else fields,
            text if instructions is None else instructions,
        )
        for side in ("input", "output"):
            validator: Validator = getattr(self, f"{side}_validator")
            if validator.validates(getattr(value, f"{side}_fields").values()):
                value.__dict__[f"{side}_validator"] = validator
        return value

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(
            f"a signature is immutable: {name!r} cannot be set; use an operation such as "
            "with_instructions"
        )

    @SignatureProperty
    def name(self) -> str:
        """The name of the signature in errors and in storage."""
        return self._parts[0]

    @SignatureProperty
    def fields(self) -> dict[str, Field]:
        """All fields by name, inputs first."""
        return {field.name: field for field in self._parts[1]}

    @SignatureProperty
    def instructions(self) -> str:
        """What the model should do."""
        return self._parts[2] or default_instructions(self._parts[1])

    @SignatureProperty
    def input_fields(self) -> dict[str, Field]:
        """The inputs by name, in order."""
        return {name: field for name, field in self.fields.items() if field.role == "input"}

    @SignatureProperty
    def output_fields(self) -> dict[str, Field]:
        """The outputs by name, in order."""
        return {name: field for name, field in self.fields.items() if field.role == "output"}

    @SignatureProperty
    def input_validator(self) -> Validator:
        """The compiled validator of the inputs."""
        return Validator(f"the inputs of {self.name!r}", list(self.input_fields.values()))

    @SignatureProperty
    def output_validator(self) -> Validator:
        """The compiled validator of the outputs."""
        return Validator(f"the outputs of {self.name!r}", list(self.output_fields.values()))

    @SignatureProperty
    def output_checks(self) -> tuple[tuple[str, FieldCheck], ...]:
        """The checks of the outputs: (field, check) pairs."""
        return tuple(
            (name, check) for name, field in self.output_fields.items() for check in field.checks
        )

    @SignatureProperty
    def content_hash(self) -> str:
        """BLAKE2b-256 of the canonical JSON of `to_dict()` without the name."""
        from dspex.language.records.canonical import content_hash

        return content_hash({key: value for key, value in self.to_dict().items() if key != "name"})

    @SignatureProperty
    def validate_inputs(self) -> ValidateFunction:
        """Validate the inputs; see `Validator.__call__`."""
        return self.input_validator.checker()

    @SignatureProperty
    def validate_outputs(self) -> ValidateFunction:
        """Validate the outputs; see `Validator.__call__`."""
        return self.output_validator.checker()

    @classmethod
    def typed_outputs(cls, values: Mapping[str, Any]) -> Self:
        """Return the coerced outputs as attributes with the annotated types of the class.

        For a type checker, `QA.typed_outputs(prediction).answer` is a `str`. At run time the result
        is a plain namespace.
        """
        value = declared_signature(cls)
        outputs = value.validate_outputs(
            {name: values[name] for name in value.output_fields if name in values}
        )
        return cast("Self", SimpleNamespace(**outputs))

    @SignatureMethod
    def with_instructions(self, instructions: str) -> "Signature":
        """Return the signature with other instructions; an empty text restores the default."""
        return self._replace(instructions=instructions)

    @SignatureMethod
    def append(self, name: str, type_: Any = str, **options: Unpack[FieldOptions]) -> "Signature":
        """Add a field after those of its role. `type_` is an annotation or the text of a type.

        `options` are `role` (default "output"), `desc`, `default`, `alias`, `constraints`, `check`
        and `suggest`.
        """
        return self._replace([*self.fields.values(), create_field(name, type_, options)])

    @SignatureMethod
    def prepend(self, name: str, type_: Any = str, **options: Unpack[FieldOptions]) -> "Signature":
        """Add a field before those of its role; the arguments are those of `append`."""
        return self._replace([create_field(name, type_, options), *self.fields.values()])

    @SignatureMethod
    def insert(
        self,
        index: int,
        name: str,
        type_: Any = str,
        **options: Unpack[FieldOptions],
    ) -> "Signature":
        """Add a field at `index` among those of its role (negative: from the end)."""
        new_field = create_field(name, type_, options)
        same = [field for field in self.fields.values() if field.role == new_field.role]
        if not -len(same) - 1 <= index <= len(same):
            raise SignatureError(
                f"signature {self.name!r} has {len(same)} {new_field.role} fields; {name!r} cannot "
                f"be inserted at {index}"
            )
        same.insert(index if index >= 0 else len(same) + 1 + index, new_field)
        return self._replace(
            [*same, *(field for field in self.fields.values() if field.role != new_field.role)]
        )

    @SignatureMethod
    def remove(self, name: str) -> "Signature":
        """Return the signature without one field."""
        self._check_field(name)
        return self._replace([field for field in self.fields.values() if field.name != name])

    @SignatureMethod
    def with_field(
        self,
        name: str,
        type_: Any = None,
        **options: Unpack[FieldOptions],
    ) -> "Signature":
        """Return the signature with the type and `options` of one field changed.

        `default=dspex.MISSING` removes a default.
        """
        self._check_field(name)
        changed = update_field(self.fields[name], type_, options)
        return self._replace(
            [changed if field.name == name else field for field in self.fields.values()]
        )

    @SignatureMethod
    def extend(self, other: SignatureLike) -> "Signature":
        """Return the signature with the fields of `other` appended; no name may occur in both."""
        return self._replace([*self.fields.values(), *Signature.of(other).fields.values()])

    @SignatureMethod
    def merge(self, other: SignatureLike) -> "Signature":
        """Return the signature with the fields of both; shared fields must be equal.

        The instructions are those of this signature, or those of `other` if this one has none.
        """
        right = Signature.of(other)
        fields = dict(self.fields)
        for name, field in right.fields.items():
            existing = fields.setdefault(name, field)
            if (existing.type, existing.role) != (field.type, field.role):
                raise SignatureError(
                    f"{self.name!r} and {right.name!r} have different fields {name!r}: "
                    f"{field_summary(existing)} here, {field_summary(field)} there; rename one, or "
                    f"remove one with remove({name!r})"
                )
        instructions = self._parts[2] or right._parts[2]  # noqa: SLF001  # the same class
        return self._replace(fields.values(), instructions)

    def _check_field(self, name: str) -> None:
        if name not in self.fields:
            raise SignatureError(
                f"signature {self.name!r} has no field {name!r}.{suggest(name, list(self.fields))} "
                f"Its fields are: {', '.join(self.fields)}"
            )

    @SignatureMethod
    def to_json_schema(
        self, provider: str = "generic", *, purpose: str = "outputs", strict: bool | None = None
    ) -> dict[str, Any]:
        """Return the schema of this signature for `provider`.

        Args:
            provider: "generic" (JSON Schema 2020-12), "openai" (strict form), "anthropic", "gemini"
                or "mcp".
            purpose: "inputs" or "outputs" for the bare schema of one side, with properties by wire
                name; "tool" for the provider's tool definition with the inputs as parameters;
                "structured" for the part of a request that defines the outputs.
            strict: only for "openai". True: strict form, or an error if it cannot express a field
                (any value, a free mapping). False: the non-strict form, which expresses everything
                but does not constrain the model. Default: strict form; a tool or request falls back
                to the non-strict form and states that in its `strict`.

        Raises:
            SignatureError: the provider cannot express a field; the message says which and why.
        """
        from dspex.language.signatures.providers import copy_json, provider_schema

        schemas: dict[tuple[str, str, bool | None], dict[str, Any]] = self.__dict__.setdefault(
            "_schemas", {}
        )
        key = (provider, purpose, strict)
        if key not in schemas:
            schemas[key] = provider_schema(
                self.name,
                self.instructions,
                self.fields,
                provider=provider,
                purpose=purpose,
                strict=strict,
            )
        schema: dict[str, Any] = copy_json(schemas[key])
        return schema

    @SignatureMethod
    def to_dict(self) -> dict[str, Any]:
        """Return the signature as JSON data; `from_dict` rebuilds an equal signature without code.

        Checks are code; they are stored as import paths, and `build` loads them from the code root.
        """
        return {
            "format": FORMAT,
            "name": self.name,
            "instructions": self.instructions,
            "fields": fields_to_dicts(self.fields),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Signature":
        """Rebuild a signature from the output of `to_dict`.

        Raises:
            SignatureError: `data` is not output of `to_dict`, or of a newer version.
        """
        return Signature.from_fields(*parts_from_dict(data))

    @classmethod
    def from_json_schema(
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
        """Return a signature with the properties of an object schema, or the parameters of a tool.

        Any other schema, or one with rules for several properties together, becomes one field,
        `value`. A rule that no type expresses becomes a type `any[schema=...]`.

        Args:
            schema: an object schema, or a tool definition of OpenAI, Anthropic, Gemini or MCP. The
                parameters of a tool become inputs, with one output `result` of any type.
            name: the name of the signature; by default the tool's name or the schema's title.
            role: the role of the properties of a bare schema. Inputs also get an output `result`.
            instructions: what the model should do; by default the description.
            foreign: additional type names and their JSON types, such as
                `schema_reader.FOREIGN_TYPES`.
            resources: additional schemas for references, by URI; nothing is ever fetched.
            field: read the whole schema as one field of this name.

        Raises:
            SignatureError: it is not a schema, or has an unknown reference or an uncheckable rule.
        """
        from dspex.language.signatures.sources import parts_of_schema

        read_name, fields, description = parts_of_schema(
            schema, role, reserved=_RESERVED, foreign=foreign, resources=resources, field=field
        )
        return Signature.from_fields(
            name or read_name or UNNAMED, fields, instructions or description
        )

    @classmethod
    def from_pydantic(
        cls,
        model: "type[BaseModel]",
        *,
        name: str = "",
        role: Role = "output",
        instructions: str = "",
    ) -> "Signature":
        """Return a signature with the fields of a pydantic model, dataclass or TypedDict.

        Values of nested models stay instances of their classes. With role "input", the signature
        also gets one output `result` of any type.
        """
        from dspex.language.signatures.sources import parts_of_class

        class_name, fields, description = parts_of_class(model, role, reserved=_RESERVED)
        return Signature.from_fields(name or class_name, fields, instructions or description)

    @classmethod
    def from_function(cls, function: Callable[..., Any], *, name: str = "") -> "Signature":
        """Return the signature of a typed function; its docstring becomes the instructions.

        A return annotation that is a model, a dataclass or a TypedDict gives one output per member,
        any other the single output `result`. Argument descriptions in a Google-style docstring
        become field descriptions.
        """
        from dspex.language.signatures.sources import parts_of_function

        function_name, fields, description = parts_of_function(function)
        return Signature.from_fields(name or function_name, fields, description)

    def __copy__(self) -> "Signature":
        return self

    def __deepcopy__(self, _: object) -> "Signature":
        return self

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Signature) and self._parts == other._parts

    def __hash__(self) -> int:
        return hash(self.content_hash)

    @SignatureProperty
    def _parts(self) -> tuple[str, tuple[Field, ...], str]:
        raise AttributeError("the signature is not initialised")

    _repr_html_ = lazy_html("dspex.language.signatures.representation:signature_html")

    def __repr__(self) -> str:
        return f"<Signature {self.name}: {self}>"

    def __str__(self) -> str:
        """Return the string form, which parses to an equal signature."""
        from dspex.language.signatures.string_form import signature_text

        name, fields, instructions = self._parts
        return signature_text("" if name == UNNAMED else name, fields, instructions=instructions)


UNNAMED = "Signature"
_RESERVED = frozenset(name for name in vars(Signature) if not name.startswith("_")) - {"name"}
