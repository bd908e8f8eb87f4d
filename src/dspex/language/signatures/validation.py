"""Values against fields: one compiled validator for each side of a signature, all errors at once."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from dspex.errors import FieldError, InvalidError, suggest
from dspex.language.signatures.field import MISSING, Field
from dspex.language.signatures.types import annotation, typed_dict

Mode = Literal["coerce", "strict"]


class Validator:
    """Checks a mapping against fields; compiled once, then safe to share between threads."""

    __slots__ = ("_adapter", "_fields", "_validate", "what")

    def __init__(self, what: str, fields: Sequence[Field]) -> None:
        """Compile for `fields`; `what` ("inputs of 'QA'") begins every error."""
        from pydantic import ConfigDict, TypeAdapter
        from pydantic import Field as PydanticField

        hints: dict[str, tuple[Any, bool]] = {}
        for field in fields:
            hint = annotation(field.type)
            has_default = not field.is_required
            if has_default:
                default = None if field.default is MISSING else field.default
                hint = Annotated[hint, PydanticField(default=default)]
            hints[field.name] = (hint, not has_default)
        shape = typed_dict("Fields", hints)
        shape.__pydantic_config__ = ConfigDict(extra="forbid", arbitrary_types_allowed=True)
        self.what = what
        self._fields = {field.name: field for field in fields}
        self._adapter: TypeAdapter[dict[str, Any]] = TypeAdapter(shape)
        self._validate = self._adapter.validator.validate_python

    def __call__(self, values: Mapping[str, Any], *, mode: Mode = "coerce") -> dict[str, Any]:
        """Return the values as their types say, defaults filled in.

        Args:
            values: by field name.
            mode: "coerce" turns "42" into 42, 1 into 1.0 and "true" into True; "strict" does none of this.

        Raises:
            InvalidError: every field that does not fit, is missing or unknown, with its path.
        """
        from pydantic_core import ValidationError

        try:
            return self._validate(dict(values), strict=mode == "strict")  # type: ignore[no-any-return]
        except ValidationError as error:
            raise self._invalid(error.errors(include_url=False)) from None

    def dump(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return validated values as JSON-ready ones."""
        return self._adapter.dump_python(dict(values), mode="json")  # type: ignore[no-any-return]

    def json_schema(self) -> dict[str, Any]:
        """Return the JSON Schema 2020-12 of the whole mapping, with `$defs` for nested models."""
        return self._adapter.json_schema()

    def _invalid(self, found: Sequence[Any]) -> InvalidError:
        errors = [self._field_error(item) for item in found]
        lines = "".join(f"\n  {error.path}: {error.message}" for error in errors)
        return InvalidError(f"{self.what} do not fit:{lines}", errors=errors)

    def _field_error(self, item: Mapping[str, Any]) -> FieldError:
        name, path = str(item["loc"][0]) if item["loc"] else "", _path(item["loc"])
        rule, message, value = item["type"], item["msg"], item["input"]
        if rule == "missing":
            value = None
            message = f"required, but missing. {self._describe(name)}" if path == name else message
        elif rule == "extra_forbidden":
            message = (
                f"unknown field.{suggest(name, list(self._fields))} Fields are: {', '.join(self._fields) or 'none'}"
            )
        else:
            message = f"{message}, but got {_short(value)}"
        return FieldError(
            field=name, path=path, value=value, message=message, constraint=rule, expected=self._describe(name)
        )

    def _describe(self, name: str) -> str:
        from dspex.language.signatures.rendering import type_text

        field = self._fields.get(name)
        return (
            f"Give {name!r} as {type_text(field.type)}" if field else f"one of: {', '.join(self._fields) or 'no field'}"
        )


def _path(location: Sequence[str | int]) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:70]}... ({len(text)} characters)"
