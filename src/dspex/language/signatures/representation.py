"""Signatures in notebooks."""

from dspex.language.signatures.signature import Signature
from dspex.language.signatures.string_form import type_text
from dspex.language.signatures.types import MISSING
from dspex.markup import Markup, badge, element, fragment, join, table


def signature_html(signature: Signature) -> str:
    """Return name, instructions and fields."""
    return fragment(signature_content(signature))


def signature_content(signature: Signature) -> Markup:
    """Return the same as a part of something larger."""
    rows = [
        (
            field.name,
            badge(field.role, "accent" if field.role == "output" else ""),
            element("code", type_text(field.type)),
            "" if field.default is MISSING else element("code", repr(field.default)),
            field.desc,
        )
        for field in signature.fields.values()
    ]
    names = ("field", "role", "type", "default", "description")
    columns = [column for column in range(len(names)) if any(row[column] for row in rows)]
    head, *cells = ([row[column] for column in columns] for row in (names, *rows))
    return join(
        element("p", element("span", signature.name, class_="name")),
        element("p", signature.instructions, class_="value"),
        table(head, cells),
    )
