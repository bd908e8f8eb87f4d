"""A program as a search looks at it: as data, and what its variables stand at before."""

from typing import Any

from dspex.errors import DefinitionError
from dspex.execution.modules import Module, Predict
from dspex.language.programs import Node, Program


def as_data(given: Module | Program) -> Program:
    """Return a program as data; of code that cannot be stored, its predictors, variables and values."""
    if isinstance(given, Program):
        return given
    try:
        return given.to_program()
    except DefinitionError:
        signature = given.contract()
        predictors = tuple(_node(path, part) for path, part in given.named_modules() if isinstance(part, Predict))
        root = Node(id="self", kind="unstored", children={"predictors": predictors})
        space, assigned = given.variables(), given.assignment()
        return Program(name=signature.name, signature=signature, root=root, space=space, assignment=assigned)


def _node(path: str, part: Predict) -> Node:
    try:
        return part.node(path)
    except DefinitionError:
        return Node(id=path, kind="predict", signature=part.signature)


def standing(program: Program) -> dict[str, Any]:
    """Return the value of each variable of the program as it is: assigned, set at its places, or its default.

    What stands nowhere, such as a temperature that is left to the provider, is None.
    """
    places = _places(program)
    found: dict[str, Any] = {}
    for name, variable in program.space.items():
        if name in program.assignment:
            found[name] = program.assignment[name]
        elif variable.paths and not variable.bindings and all(path in places for path in variable.paths):
            first, *others = (places[path] for path in variable.paths)
            found[name] = first if all(other == first for other in others) else None
        else:
            found[name] = variable.default
    return found


def _places(program: Program) -> dict[str, Any]:
    """Return what the native predictors of a program are set to, by path."""
    paths = {path for variable in program.space.values() for path in variable.paths}
    found: dict[str, Any] = {}
    for node in program.root.walk():
        if node.kind != "predict" or node.signature is None:
            continue
        found[f"{node.id}.instructions"] = node.signature.instructions
        below = f"{node.id}."
        slots = {path.removeprefix(below) for path in paths if path.startswith(below)} - {"instructions", "demos"}
        found |= {f"{below}{slot}": node.config.get(slot) for slot in slots if "." not in slot}
    return found
