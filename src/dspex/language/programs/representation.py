"""Programs as data in notebooks."""

from dspex.error_text import shorten
from dspex.language.programs.node import Node
from dspex.language.programs.program import Program
from dspex.language.signatures.representation import signature_content
from dspex.markup import element, folded, fragment, table


def program_html(program: Program) -> str:
    """Return the name, the signature, the modules, and the assigned values."""
    values = [(name, shorten(value, 120)) for name, value in program.assignment.items()]
    return fragment(
        element("p", element("span", program.name, class_="name")),
        signature_content(program.signature),
        table(("module", "kind"), [(node.id, _kind(node)) for node in program.root.walk()]),
        folded("assigned values", table(("variable", "value"), values)) if values else None,
    )


def _kind(node: Node) -> str:
    return str(node.config.get("target") or node.kind)
