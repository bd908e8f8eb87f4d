"""Modules in notebooks."""

from typing import Any

from dspex.error_text import quantity, shorten
from dspex.execution.modules.module import Module
from dspex.execution.modules.predict import Predict
from dspex.markup import Content, Markup, element, folded, fragment, join, preformatted, table


def module_html(module: Module[Any]) -> str:
    """Return the parts of a program as a tree, and its variables with their values."""
    return fragment(
        element("ul", _part("", module, frozenset()), class_="tree"), _variables(module)
    )


def _part(name: str, module: Module[Any], above: frozenset[int]) -> Markup:
    above |= {id(module)}
    children = [
        _part(child_name, child, above)
        for child_name, child in module.children()
        if id(child) not in above
    ]
    return element(
        "li",
        element("span", f"{name}: " if name else "", type(module).__name__, class_="name"),
        _predictor(module) if isinstance(module, Predict) else None,
        element("ul", children) if children else None,
    )


def _predictor(module: Predict[Any]) -> Markup:
    signature, demos = module.signature, len(module.demos)
    inputs, outputs = ", ".join(signature.input_fields), ", ".join(signature.output_fields)
    return join(
        " ",
        element("code", f"{inputs} -> {outputs}"),
        element("span", f", {quantity(demos, 'demonstration')}", class_="note") if demos else None,
        folded("instructions", preformatted(signature.instructions)),
    )


def _variables(module: Module[Any]) -> Markup:
    space, values = module.variables(), module.assignment()
    rows: list[tuple[Content, ...]] = [
        (
            name,
            variable.kind,
            shorten(values[name], 120) if name in values else "as declared",
            ", ".join(variable.paths),
        )
        for name, variable in space.items()
    ]
    if not rows:
        return Markup()
    return folded(f"{len(rows)} variables", table(("variable", "kind", "value", "where"), rows))
