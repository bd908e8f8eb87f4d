"""Spaces of variables in notebooks."""

from dspex.error_text import quantity, shorten
from dspex.language.variables.space import Space
from dspex.markup import element, fragment, table


def space_html(space: Space) -> str:
    """Return each variable with its default, and how many constraints there are."""
    constraints = len(space.constraints)
    suffix = f", {quantity(constraints, 'constraint')}" if constraints else ""
    rows = [
        (name, type(variable).__name__, shorten(variable.default, 80), shorten(variable, 200))
        for name, variable in space.items()
    ]
    return fragment(
        element("p", f"{quantity(len(space), 'variable')}{suffix}"),
        table(("variable", "kind", "default", "declared as"), rows) if rows else None,
    )
