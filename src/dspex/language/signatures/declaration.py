"""Reads the fields that a class body declares."""

import inspect
import sys
from typing import Any

from dspex.error_text import suggest
from dspex.errors import SignatureError
from dspex.language.signatures.annotations import from_annotation, with_rules
from dspex.language.signatures.field import Field, Mark
from dspex.language.signatures.grammar import parse_type
from dspex.language.signatures.kinds import ALIASES, KINDS
from dspex.language.signatures.types import MISSING


def declared_fields(cls: type) -> list[Field]:
    """Return the fields that the body of `cls` declares, and remove their defaults from the class.

    Raises:
        SignatureError: a declaration is wrong; the message names the class and the field.
    """
    hints = {
        name: _resolve_hint(cls, name, hint) for name, hint in inspect.get_annotations(cls).items()
    }
    for name, value in list(vars(cls).items()):
        if isinstance(value, Mark) and name not in hints:
            raise SignatureError(f"{cls.__name__}.{name} has no type; write `{name}: str = ...`")
    fields = []
    for name, hint in hints.items():
        mark = cls.__dict__.get(name, MISSING)
        if name in cls.__dict__:
            delattr(cls, name)
        fields.append(_field(cls.__name__, name, hint=hint, mark=mark))
    return fields


def _resolve_hint(cls: type, name: str, hint: Any) -> Any:
    """Resolve a quoted annotation: as Python if possible, otherwise as the text of a type."""
    if not isinstance(hint, str):
        return hint

    def probe() -> None:
        """Hold one annotation for `inspect.get_annotations` to resolve."""

    probe.__annotations__ = {name: hint}
    space = vars(sys.modules[cls.__module__]) if cls.__module__ in sys.modules else {}
    try:
        return inspect.get_annotations(probe, globals=space, locals=dict(vars(cls)), eval_str=True)[
            name
        ]
    except NameError as error:
        missing = error.name
    except (SyntaxError, TypeError):
        missing = ""
    try:
        return parse_type(hint)
    except SignatureError as error:
        if not missing or missing in {*KINDS, *ALIASES}:
            raise error.with_message(f"{cls.__name__}.{name}: {error.message}") from None
        raise SignatureError(
            f"{cls.__name__}.{name}: {missing!r} is neither defined in the scope of the class nor "
            f"a type.{suggest(missing, [*KINDS, *ALIASES])} Define it above, at module level, or "
            "drop `from __future__ import annotations`"
        ) from None


def _field(owner: str, name: str, *, hint: Any, mark: Any) -> Field:
    if not isinstance(mark, Mark):
        mark = Mark(role="input", desc="", default=mark, alias=None, constraints=())
    try:
        type_ = with_rules(from_annotation(hint), dict(mark.constraints))
    except SignatureError as error:
        raise error.with_message(f"{owner}.{name}: {error.message}") from None
    return Field(
        name=name,
        type=type_,
        role=mark.role,
        desc=mark.desc,
        default=mark.default,
        alias=mark.alias,
        checks=mark.checks,
    )
