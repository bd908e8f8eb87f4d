"""Validates values: one compiled validator per side of a signature, which collects all errors."""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from dspex.errors import DefinitionError, InputError
from dspex.language.signatures.codec import json_fallback
from dspex.language.signatures.field import Field
from dspex.language.signatures.names import NAME_LIMIT, key_name
from dspex.language.signatures.types import MISSING

if TYPE_CHECKING:
    from pydantic_core import CoreSchema, SchemaSerializer, SchemaValidator

    from dspex.language.signatures.cancellable_run import CancellableRun
    from dspex.language.signatures.effort import Effort, WorkAmount

Mode = Literal["coerce", "strict"]
CompiledCheck = Callable[[Mapping[str, Any]], dict[str, Any]]
_FEW_TYPES = 100  # types; compiling them takes at most a few milliseconds


class Validator:
    """Validates a mapping by fields. Each mode is compiled on first use. Thread-safe.

    `compilations` counts the compilations.
    """

    __slots__ = (
        "_amount_of", "_cancellable", "_checks", "_compiling", "_core", "_efforts", "_fields",
        "_has_classes",
        "_serializer", "compilations", "what",
    )  # fmt: skip

    def __init__(self, what: str, fields: Sequence[Field]) -> None:
        """Validate `fields`; `what` ("the inputs of 'QA'") begins every error message."""
        self.what = what
        self.compilations = 0
        self._fields = {field.name: field for field in fields}
        self._checks: dict[str, CompiledCheck] = {}
        self._cancellable: dict[str, SchemaValidator] = {}
        self._compiling = threading.Lock()
        self._core: CoreSchema | None = None
        self._efforts: dict[str, Effort] | None = None
        self._amount_of: Callable[[Mapping[str, Any]], WorkAmount] | None = None
        self._has_classes: bool | None = None
        self._serializer: SchemaSerializer | None = None

    @property
    def fields(self) -> tuple[Field, ...]:
        """The validated fields, in order."""
        return tuple(self._fields.values())

    @property
    def has_classes(self) -> bool:
        """Whether validation creates instances of user classes."""
        if self._has_classes is None:
            self._has_classes = any(field.type.has_classes for field in self.fields)
        return self._has_classes

    def validates(self, fields: Iterable[Field]) -> bool:
        """Whether exactly these field objects are validated."""
        candidates = list(fields)
        return len(candidates) == len(self._fields) and all(
            current is candidate
            for current, candidate in zip(self._fields.values(), candidates, strict=True)
        )

    def __call__(self, values: Mapping[str, Any], *, mode: Mode = "coerce") -> dict[str, Any]:
        """Return the validated values, with defaults filled in.

        Args:
            values: by field name (coercing also accepts a field's alias).
            mode: "coerce" turns "42" into 42, 1 into 1.0 and "true" into True; "strict" does not.
                Both read an instance of a class that the type does not know by its JSON form.

        Raises:
            InputError: lists every field that is wrong, missing or unknown, with its path.
        """
        try:
            return self._checks[mode](values)
        except KeyError:
            if mode in self._checks:
                raise
        except ValueError as error:
            return self._retry_as_json(values, error, mode)
        self._compile(mode)
        return self(values, mode=mode)

    def run_cancellable(
        self, values: Mapping[str, Any], run: "CancellableRun", *, mode: Mode = "coerce"
    ) -> dict[str, Any]:
        """Do the same as `__call__` for large data; other threads can run, and `run` can cancel."""
        check = self._cancellable_validator(mode).validate_python
        try:
            return check(values, context=run)  # type: ignore[no-any-return]
        except ValueError as error:
            data = self._with_json_values(values, error, mode)
            if data is None:
                raise self._invalid(error) from None
        try:
            return check(data, context=run.fresh())  # type: ignore[no-any-return]
        except ValueError as error:
            raise self._invalid(error) from None

    def amount(self, values: Mapping[str, Any]) -> "WorkAmount":
        """Return the estimated cost of checking `values`."""
        if self._amount_of is None:
            self._amount_of = self._amounts()
        return self._amount_of(values)

    def is_quick(self, amount: "WorkAmount") -> bool:
        """Whether `__call__` takes at most a few milliseconds for `amount`, with compilation."""
        if not amount.is_quick:
            return False
        return (
            "coerce" in self._checks
            or sum(part.parts for part in self._field_efforts().values()) <= _FEW_TYPES
        )

    def _amounts(self) -> "Callable[[Mapping[str, Any]], WorkAmount]":
        from dspex.language.signatures.effort import amount_of

        efforts = self._field_efforts()
        return lambda values: amount_of(values, efforts)

    def _field_efforts(self) -> "dict[str, Effort]":
        from dspex.language.signatures.effort import efforts_of

        if self._efforts is None:
            self._efforts = efforts_of(self.fields)
        return self._efforts

    def checker(self) -> Callable[..., dict[str, Any]]:
        """Return `__call__` as a plain function around pydantic-core, for the hottest path."""
        check, full = self._compile("coerce"), self.__call__

        def validate(values: Mapping[str, Any], *, mode: Mode = "coerce") -> dict[str, Any]:
            if mode != "coerce":
                return full(values, mode=mode)
            try:
                return check(values)
            except ValueError as error:
                return self._retry_as_json(values, error, "coerce")

        validate.__doc__ = Validator.__call__.__doc__
        return validate

    def dump(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return validated values as JSON data, by field name."""
        if self._serializer is None:
            from pydantic_core import SchemaSerializer

            self._compile("coerce")
            self._serializer = SchemaSerializer(self._core)  # type: ignore[arg-type]
        return self._serializer.to_python(  # type: ignore[no-any-return]
            dict(values), mode="json", by_alias=True, warnings=False, fallback=json_fallback
        )

    def json_schema(self) -> dict[str, Any]:
        """Return the JSON Schema 2020-12 of the mapping, with properties by field name."""
        from dspex.language.signatures.json_schema import fields_schema

        return fields_schema(self.fields, key=lambda field: field.name)

    def _compile(self, mode: Mode) -> CompiledCheck:
        if mode in self._checks:
            return self._checks[mode]
        if mode not in ("coerce", "strict"):
            raise DefinitionError(f"a mode is 'coerce' or 'strict', not {mode!r}")
        from pydantic_core import SchemaValidator

        with self._compiling:  # only first calls take the lock
            if mode not in self._checks:
                schema = fields_core_schema(self.fields, mode)
                validator = SchemaValidator(schema)
                self.compilations += 1
                if mode == "coerce":
                    self._core = schema
                self._checks[mode] = validator.validate_python
        return self._checks[mode]

    def _retry_as_json(
        self, values: Mapping[str, Any], error: ValueError, mode: Mode
    ) -> dict[str, Any]:
        """Retry with refused instances as JSON data, or raise the error.

        A type that was rebuilt from data does not know the classes of the original type.
        """
        error, count = self._limit_errors(values, error, mode)
        data = self._with_json_values(values, error, mode)
        if data is None:
            raise self._invalid(error, count) from None
        try:
            return self._checks[mode](data)
        except ValueError as second:
            raise self._invalid(*self._limit_errors(data, second, mode)) from None

    def _with_json_values(
        self, values: Mapping[str, Any], error: ValueError, mode: Mode
    ) -> dict[str, Any] | None:
        from dspex.language.signatures.instances import with_json_values

        return with_json_values(values, error, self._fields, is_strict=mode == "strict")

    def _cancellable_validator(self, mode: Mode) -> "SchemaValidator":
        if mode not in self._cancellable:
            from pydantic_core import SchemaValidator

            with self._compiling:
                self._cancellable[mode] = SchemaValidator(
                    fields_core_schema(self.fields, mode, is_cancellable=True)
                )
        return self._cancellable[mode]

    def _limit_errors(
        self, values: Mapping[str, Any], error: ValueError, mode: Mode
    ) -> tuple[ValueError, int | None]:
        """Return the error; if it has too many problems, a shorter one and their number."""
        from pydantic_core import ValidationError

        from dspex.language.signatures.cancellable import ERROR_LIMIT
        from dspex.language.signatures.cancellable_run import CancellableRun

        if isinstance(error, ValidationError) and error.error_count() > ERROR_LIMIT:
            try:
                self._cancellable_validator(mode).validate_python(values, context=CancellableRun())
            except ValueError as shorter:
                return shorter, error.error_count()
        return error, None

    def _invalid(self, error: ValueError, count: int | None = None) -> InputError:
        from dspex.language.signatures.problems import invalid_error

        return invalid_error(error, self.what, fields=self._fields, count=count)


def fields_core_schema(
    fields: Sequence[Field], mode: Mode, *, is_cancellable: bool = False
) -> "CoreSchema":
    """Return the core schema of a mapping with exactly `fields`, with any field names."""
    from pydantic_core import core_schema

    from dspex.language.signatures.compiler import Compiler

    compiler = Compiler(mode, is_cancellable=is_cancellable)
    members = {}
    for field in fields:
        schema = compiler.compile(field.type)
        if not field.is_required:
            schema = core_schema.with_default_schema(schema, default=_default(field))
        alias = _aliases(field) if mode == "coerce" else None
        members[field.name] = core_schema.typed_dict_field(
            schema, required=field.is_required, validation_alias=alias
        )
    whole: CoreSchema = core_schema.typed_dict_schema(members, extra_behavior="forbid")
    if is_cancellable:
        from dspex.language.signatures.cancellable import limit_unknown_members

        whole = limit_unknown_members(whole, len(members))
    return compiler.finish(whole)


def _aliases(field: Field) -> list[list[str | int]] | None:
    """Return the accepted names of a field: its alias, its name for providers, its name."""
    if field.alias is None:
        return None
    provider_names = [] if len(field.alias) > NAME_LIMIT else [key_name(field.alias)]
    return [[name] for name in dict.fromkeys([field.alias, *provider_names, field.name])]


def _default(field: Field) -> Any:
    """Return the default, which is JSON data, as a validated value, or None."""
    if field.default is MISSING or is_plain_default(field):
        return None if field.default is MISSING else field.default
    return check_default(field)[0]


def is_plain_default(field: Field) -> bool:
    """Whether the default is a scalar that needs no validation."""
    if field.default is None:
        return field.type.is_optional
    exact = {"str": str, "int": int, "bool": bool}.get(field.type.kind)
    return type(field.default) is exact and not field.type.constraints and field.type.python is None


def check_default(field: Field) -> tuple[Any, Any]:
    """Return the default of `field` as a validated value, and as JSON data.

    Raises:
        InputError: the default does not fit the type.
    """
    from dataclasses import replace

    validator = Validator("the default", [replace(field, default=MISSING, alias=None)])
    result = validator({field.name: field.default})
    return result[field.name], validator.dump(result)[field.name]
