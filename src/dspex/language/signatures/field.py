"""One field of a signature."""

from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from dspex.arguments import checks_names
from dspex.language.signatures.conditions import Conditions, FieldCheck, field_checks
from dspex.language.signatures.types import MISSING, Type

Role = Literal["input", "output"]
ROLES: Final[tuple[Role, ...]] = get_args(Role)


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """The name, type and role of an input or output of a program.

    `alias` is the name in prompts and schemas if it differs from the Python name. `checks` are
    enforced by the module that predicts the value, not by validation.
    """

    name: str
    type: Type
    role: Role
    desc: str = ""
    default: Any = MISSING
    alias: str | None = None
    checks: tuple[FieldCheck, ...] = ()

    @property
    def wire_name(self) -> str:
        """The name that models see."""
        return self.alias or self.name

    @property
    def is_required(self) -> bool:
        """Whether a value must be given: without a default, unless an absent value means null."""
        return self.default is MISSING and (
            not self.type.is_optional or bool(self.type.constraint("required"))
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """The result of `Input(...)` and `Output(...)` in a class body, until the class is compiled."""

    role: Role
    desc: str
    default: Any
    alias: str | None
    constraints: tuple[tuple[str, Any], ...]
    checks: tuple[FieldCheck, ...] = ()


@checks_names
def Input(  # noqa: N802
    desc: str = "",
    *,
    default: Any = MISSING,
    alias: str | None = None,
    **constraints: Any,
) -> Any:
    """Mark a field of a signature class as an input; a bare annotation is also an input.

    Args:
        desc: what the value means; the model reads it.
        default: the value if none is given.
        alias: the name that models see, if it differs from the Python name.
        constraints: rules of the field's type, such as `ge=0` or `max_length=200`.
    """
    return Mark(
        role="input",
        desc=desc,
        default=default,
        alias=alias,
        constraints=tuple(sorted(constraints.items())),
    )


@checks_names
def Output(  # noqa: N802
    desc: str = "",
    *,
    default: Any = MISSING,
    alias: str | None = None,
    check: Conditions | None = None,
    suggest: Conditions | None = None,
    **constraints: Any,
) -> Any:
    """Mark a field of a signature class as an output.

    Args:
        desc: what the value means; the model reads it.
        default: the value if none is given.
        alias: the name that models see, if it differs from the Python name.
        check: a function of the value that returns whether it is acceptable, or raises
            `ValueError`; or `(function, message)`, or a list of these. If the value fails, the
            predictor is asked again with the message, at most twice, as by `Assert`.
        suggest: the same, but failures are only recorded, as by `Suggest`.
        constraints: rules of the field's type, such as `ge=0` or `max_length=200`.
    """
    checks = field_checks(check, is_required=True) + field_checks(suggest, is_required=False)
    rules = tuple(sorted(constraints.items()))
    return Mark(
        role="output", desc=desc, default=default, alias=alias, constraints=rules, checks=checks
    )
