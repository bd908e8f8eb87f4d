"""The contract that a module fulfils: named, typed inputs and outputs, and instructions."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, Union

from dspex.errors import SignatureError
from dspex.language.signatures.annotations import from_annotation
from dspex.language.signatures.checks import check_fields, default_instructions
from dspex.language.signatures.field import Field, Role
from dspex.language.signatures.grammar import parse_fields
from dspex.language.signatures.validation import Mode, Validator

P = ParamSpec("P")
R = TypeVar("R")
SignatureLike = Union["Signature", "type[Signature]", str]


class _Operation(Generic[P, R]):
    """Makes a method written for instances work on signature classes too: `QA.with_instructions("...")`."""

    def __init__(self, function: "Callable[Concatenate[Signature, P], R]") -> None:
        self.function = function
        self.__doc__ = function.__doc__

    def __get__(self, instance: "Signature | None", owner: "type[Signature]") -> Callable[P, R]:
        value = instance if instance is not None else _compiled(owner)
        return self.function.__get__(value, type(value))  # type: ignore[no-any-return]


class _View(Generic[R]):
    """The same for values without arguments: `QA.input_fields`. Computed once for each signature."""

    def __init__(self, function: "Callable[[Signature], R]") -> None:
        self.function = function
        self.name = function.__name__
        self.__doc__ = function.__doc__

    def __get__(self, instance: "Signature | None", owner: "type[Signature]") -> R:
        value = instance if instance is not None else _compiled(owner)
        kept = value.__dict__
        if self.name not in kept:
            kept[self.name] = self.function(value)
        return kept[self.name]  # type: ignore[no-any-return]


def _compiled(owner: "type[Signature]") -> "Signature":
    value = owner.__dict__.get("__signature_value__")
    if not isinstance(value, Signature):
        raise SignatureError("Signature itself has no fields: subclass it, or write Signature('question -> answer')")
    return value


class Signature:
    """An immutable value: a name, fields and instructions.

    Three ways to one: `Signature("question -> answer", "Answer briefly.")`, a class body (a bare annotation is an
    input, `Output()` marks an output, the docstring is the instructions), or an operation on another signature.
    Whatever takes a signature takes any of `Signature | type[Signature] | str`, through `Signature.of`.

    Raises:
        SignatureError: the declaration is wrong; the message says where, why, and what a right one looks like.
    """

    __signature_value__: "Signature"

    def __init__(self, text: str, instructions: str = "", *, name: str = "") -> None:
        """Parse the string form; without instructions, a sentence that names the fields stands in."""
        self._set(name or "Signature", parse_fields(text), instructions)

    def __init_subclass__(cls, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init_subclass__(**kwargs)
        from dspex.language.signatures.declaration import compile_class

        cls.__signature_value__ = compile_class(cls)

    @classmethod
    def from_fields(cls, name: str, fields: Iterable[Field], instructions: str = "") -> "Signature":
        """Return the signature with these parts, checked."""
        value = Signature.__new__(Signature)
        value._set(name, tuple(fields), instructions)  # noqa: SLF001  # a second constructor
        return value

    @classmethod
    def of(cls, given: SignatureLike) -> "Signature":
        """Return the value behind an instance, a class or the string form."""
        if isinstance(given, Signature):
            return given
        if isinstance(given, str):
            return Signature(given)
        if isinstance(given, type) and issubclass(given, Signature):
            return _compiled(given)
        raise SignatureError(
            f"expected a Signature, a subclass of it or a string such as 'question -> answer', not {given!r}"
        )

    def _set(self, name: str, fields: tuple[Field, ...], instructions: str) -> None:
        ordered = tuple(field for role in ("input", "output") for field in fields if field.role == role)
        check_fields(name, ordered, reserved=_RESERVED)
        self.__dict__["_parts"] = (name, ordered, inspect.cleandoc(instructions) or default_instructions(ordered))

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
        return self._parts[2]

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
    def content_hash(self) -> str:
        """BLAKE2b-256 over the canonical JSON of `to_dict()`, without the name: the same contract, the same hash."""
        from dspex.language.records.canonical import content_hash

        return content_hash({key: value for key, value in self.to_dict().items() if key != "name"})

    @_Operation
    def validate_inputs(self, values: Mapping[str, Any], *, mode: Mode = "coerce") -> dict[str, Any]:
        """Return `values` as the inputs' types say; see `Validator.__call__`."""
        return self.input_validator(values, mode=mode)

    @_Operation
    def validate_outputs(self, values: Mapping[str, Any], *, mode: Mode = "coerce") -> dict[str, Any]:
        """Return `values` as the outputs' types say; see `Validator.__call__`."""
        return self.output_validator(values, mode=mode)

    @_Operation
    def with_instructions(self, instructions: str) -> "Signature":
        """Return the signature with other instructions."""
        return Signature.from_fields(self.name, self.fields.values(), instructions)

    @_Operation
    def append(self, name: str, type_: Any = str, *, role: Role = "output", desc: str = "") -> "Signature":  # noqa: ANN401
        """Return the signature with one more field, the last of its role. `type_` is an annotation or type text."""
        added = Field(name=name, type=from_annotation(type_), role=role, desc=desc)
        return Signature.from_fields(self.name, [*self.fields.values(), added], self.instructions)

    @_Operation
    def prepend(self, name: str, type_: Any = str, *, role: Role = "output", desc: str = "") -> "Signature":  # noqa: ANN401
        """Return the signature with one more field, the first of its role."""
        added = Field(name=name, type=from_annotation(type_), role=role, desc=desc)
        return Signature.from_fields(self.name, [added, *self.fields.values()], self.instructions)

    @_Operation
    def remove(self, name: str) -> "Signature":
        """Return the signature without one field."""
        if name not in self.fields:
            raise SignatureError(f"signature {self.name!r} has no field {name!r} to remove")
        return Signature.from_fields(self.name, [f for f in self.fields.values() if f.name != name], self.instructions)

    @_Operation
    def to_json_schema(self, provider: str = "generic", *, purpose: str = "outputs") -> dict[str, Any]:
        """Return the schema that `provider` wants of the inputs or the outputs (`purpose`).

        "generic" is JSON Schema 2020-12; "openai" is the strict form of structured outputs.
        """
        from dspex.language.signatures.json_schema import provider_schema

        return provider_schema(self, provider, purpose)

    @_Operation
    def to_dict(self) -> dict[str, Any]:
        """Return the whole signature as JSON-ready data, from which `from_dict` rebuilds an equal one with no code."""
        from dspex.language.signatures.codec import signature_to_dict

        return signature_to_dict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Signature":
        """Read what `to_dict` wrote."""
        from dspex.language.signatures.codec import signature_from_dict

        return signature_from_dict(data)

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
        from dspex.language.signatures.rendering import fields_text

        return f"{fields_text(self.input_fields.values())} -> {fields_text(self.output_fields.values())}".strip()


_RESERVED = frozenset(name for name in vars(Signature) if not name.startswith("_")) - {"name"}
