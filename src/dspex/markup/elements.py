"""Elements whose text is escaped by construction."""

import html
import re
from collections.abc import Iterable
from typing import TypeAlias, Union

# what HTML does not allow or a viewer does not show, and what UTF-8 cannot encode
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_VOID = frozenset({"br", "hr", "input", "meta", "link"})


class Markup(str):
    """Text that is HTML already. All other text is escaped when it enters an element."""

    __slots__ = ()


Content: TypeAlias = Union[str, int, float, Iterable["Content"], None]  # noqa: UP007


def clean(text: str) -> str:
    """Return text with uniform line ends and U+FFFD for each character that HTML cannot hold."""
    return _UNPRINTABLE.sub("\ufffd", text.replace("\r\n", "\n").replace("\r", "\n"))


def join(*contents: Content) -> Markup:
    """Return contents one after the other: markup unchanged, text escaped, None as nothing."""
    return Markup("".join(map(_escape, contents)))


def _escape(content: Content) -> str:
    if content is None:
        return ""
    if isinstance(content, Markup):
        return content
    if isinstance(content, str | int | float):
        return html.escape(clean(str(content)))
    return "".join(map(_escape, content))


def element(
    name: str, /, *contents: Content, **attributes: str | int | float | bool | None
) -> Markup:
    """Return an element.

    `class_` stands for `class`, `data_x` for `data-x`. A true attribute has no value; one that is
    None or false is left out.
    """
    words = "".join(
        f" {_attribute(key)}" if value is True else f' {_attribute(key)}="{_escape(value)}"'
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in _VOID:
        return Markup(f"<{name}{words}>")
    return Markup(f"<{name}{words}>{''.join(map(_escape, contents))}</{name}>")


def _attribute(key: str) -> str:
    return key.rstrip("_").replace("_", "-")
