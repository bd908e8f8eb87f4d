"""A program as data, and the current values of its variables."""

from typing import Any

from dspex.errors import DefinitionError
from dspex.execution.modules import Module, Predict
from dspex.language.programs import ROOT, ModulePath, Node, Program


def as_program(program: Module | Program) -> Program:
    """Return a program as data.

    If its code cannot be stored, only its predictors, variables and values.
    """
    if isinstance(program, Program):
        return program
    try:
        return program.to_program()
    except DefinitionError:
        signature = program.contract()
        predictors = tuple(
            _node(path, part) for path, part in program.named_modules() if isinstance(part, Predict)
        )
        root = Node(id=str(ROOT), kind="unstored", children={"predictors": predictors})
        space, assigned = program.variables(), program.assignment()
        return Program(
            name=signature.name, signature=signature, root=root, space=space, assignment=assigned
        )


def _node(path: str, part: Predict) -> Node:
    try:
        return part.node(ModulePath.of(path))
    except DefinitionError:
        return Node(id=path, kind="predict", signature=part.signature)


def current_values(program: Program) -> dict[str, Any]:
    """Return the current value of each variable: assigned, set on its predictors, or its default.

    A value that is set nowhere, such as a temperature left to the provider, is None.
    """
    places = _places(program)
    values: dict[str, Any] = {}
    for name, variable in program.space.items():
        if name in program.assignment:
            values[name] = program.assignment[name]
        elif (
            variable.paths
            and not variable.bindings
            and all(path in places for path in variable.paths)
        ):
            first, *others = (places[path] for path in variable.paths)
            values[name] = first if all(value == first for value in others) else None
        else:
            values[name] = variable.default
    return values


def _places(program: Program) -> dict[str, Any]:
    """Return the settings of the native predictors of a program by path."""
    paths = {path for variable in program.space.values() for path in variable.paths}
    values: dict[str, Any] = {}
    for node in program.root.walk():
        if node.kind != "predict" or node.signature is None:
            continue
        values[f"{node.id}.instructions"] = node.signature.instructions
        below = f"{node.id}."
        slots = {path.removeprefix(below) for path in paths if path.startswith(below)} - {
            "instructions",
            "demos",
        }
        values |= {f"{below}{slot}": node.config.get(slot) for slot in slots if "." not in slot}
    return values
