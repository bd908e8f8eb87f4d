"""Types and fields as text: what prompts show, and what the grammar reads back."""

import json
from collections.abc import Iterable
from functools import lru_cache

from dspex.language.signatures.codec import plain
from dspex.language.signatures.field import MISSING, Field
from dspex.language.signatures.types import Type


@lru_cache(maxsize=4096)
def type_text(type_: Type) -> str:
    """Return `type_` in the words of the string form: `list[str][min_items=1]`, `Literal['a', 'b']`, `int?`."""
    if type_.kind == "union":
        return _union_text(type_)
    if type_.kind == "atom":
        return f"Literal[{', '.join(_value(choice) for choice in type_.constraint('one_of'))}]"
    if type_.kind == "object":
        return type_.title
    args = f"[{', '.join(type_text(arg) for arg in type_.args)}]" if type_.args else ""
    rules = (
        f"[{', '.join(f'{name}={_value(value)}' for name, value in type_.constraints)}]" if type_.constraints else ""
    )
    return f"{type_.kind}{args}{rules}"


def _union_text(type_: Type) -> str:
    members = [type_text(arg) for arg in type_.args if arg.kind != "none"]
    text = " | ".join(members)
    if len(members) == len(type_.args):
        return text
    return f"{text}?" if len(members) == 1 else f"{text} | none"


def _value(value: object) -> str:
    if isinstance(value, str):
        return repr(value) if "'" not in value and "\\" not in repr(value) else json.dumps(value)
    return json.dumps(value, default=list)


def fields_text(fields: Iterable[Field]) -> str:
    """Return `fields` in the words of the string form, with descriptions and defaults."""
    return ", ".join(_field_text(field) for field in fields)


def _field_text(field: Field) -> str:
    text = f"{field.name}: {type_text(field.type)}"
    if field.desc:
        text += f" {json.dumps(field.desc, ensure_ascii=False)}"
    return text if field.default is MISSING else f"{text} = {_value(plain(field.default))}"
