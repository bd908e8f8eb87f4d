"""Programs as the dspy worker creates them, and what it answers as programs."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import TypeAdapter

from dspex.errors import DefinitionError
from dspex.execution.backends.dspy_bridge.schemas import from_wire, to_wire
from dspex.execution.backends.remote import Tools
from dspex.language.programs import Node, Program
from dspex.language.signatures import Field, Signature
from dspex.language.signatures.types import make
from dspex.language.variables import Space, Variable

_OURS = {"model", "adapter", "tools"}


def lowered(program: Program, tools: Tools) -> dict[str, Any]:
    """Return what a worker needs to create the program's root as a dspy module."""
    node = program.root
    definition: dict[str, Any] = {"kind": node.kind, "assigned": assigned(program), "dspy": node.config.get("dspy", "")}
    if node.kind == "dspy":
        definition |= {name: node.config[name] for name in ("target", "init", "state") if name in node.config}
        if "target" not in definition:
            raise DefinitionError(f"the dspy node {node.id!r} names no target; give 'pkg.mod:Name' of its module")
        return definition
    if node.signature is None:
        raise DefinitionError(f"the node {node.id!r} of kind {node.kind!r} has no signature, so dspy cannot run it")
    settings = {name: value for name, value in node.config.items() if name not in _OURS}
    return {
        **definition,
        "signature": to_wire(node.signature),
        "settings": settings,
        "tools": [_described(name, tools) for name in node.config.get("tools", ())],
    }


def _described(name: str, tools: Tools) -> dict[str, Any]:
    if name not in tools:
        raise DefinitionError(f"the program uses a tool {name!r}; this backend has: {', '.join(tools) or 'none'}")
    adapter: TypeAdapter[Any] = TypeAdapter(tools[name])  # type: ignore[arg-type]  # a function is a type to pydantic
    schema = adapter.json_schema()
    return {"name": name, "desc": (tools[name].__doc__ or name).strip(), "args": schema.get("properties", {})}


def assigned(program: Program) -> dict[str, dict[str, Any]]:
    """Return the assignment by place: `{"predict": {"instructions": ..., "demos": [...]}}`."""
    places: dict[str, dict[str, Any]] = {}
    prefix = "" if program.root.id == "self" else f"{program.root.id}."
    for name, value in program.assignment.items():
        variable = program.space.get(name)
        for path in variable.paths if variable is not None else (name,):
            place, _, slot = path.rpartition(".")
            inner = "self" if place == program.root.id else place.removeprefix(prefix)
            places.setdefault(inner, {})[slot] = value
    return places


def imported(described: Mapping[str, Any], node: Node, *, signature: Signature | None, name: str) -> Program:
    """Return the program of a dspy module: its node, its variables, and the values that they have now."""
    predictors = described["predictors"]
    contract = signature or _contract(described, node.config.get("target", "the program"))
    return Program(
        name=name or contract.name,
        signature=contract,
        root=replace(node, signature=contract),
        space=space_of(predictors),
        assignment=values_of(predictors),
    )


def space_of(predictors: Mapping[str, Any]) -> Space:
    """Return the variables of a program with these predictors."""
    variables = []
    for path in predictors:
        for slot, kind in (("instructions", "text"), ("demos", "examples")):
            text = f"{path}.{slot}"
            variables.append(Variable(name=text, kind=kind, paths=(text,)))  # type: ignore[arg-type]
    return Space(tuple(variables))


def values_of(predictors: Mapping[str, Any]) -> dict[str, Any]:
    """Return an assignment of what these predictors say now; empty demonstrations are left out."""
    values: dict[str, Any] = {}
    for path, told in predictors.items():
        values[f"{path}.instructions"] = told["signature"]["instructions"]
        if told["demos"]:
            values[f"{path}.demos"] = told["demos"]
    return values


def _contract(described: Mapping[str, Any], target: str) -> Signature:
    """Inputs are what `forward` takes, typed by the predictor that takes the same; outputs are the last predictor's."""
    signatures = [from_wire(told["signature"]) for told in described["predictors"].values()]
    if not signatures:
        raise DefinitionError(f"{target} has no predictor to read its outputs from; give its signature")
    takes: Sequence[str] = described["forward"] or list(signatures[0].input_fields)
    known: dict[str, Field] = {}
    for one in signatures:  # the first that describes it, else the first that takes it
        for name, item in one.input_fields.items():
            if name not in known or (item.desc and not known[name].desc):
                known[name] = item
    fields = [known.get(name) or Field(name=name, type=make("any"), role="input") for name in takes]
    return Signature.from_fields(
        target.rpartition(":")[2] or signatures[-1].name,
        [*fields, *signatures[-1].output_fields.values()],
        signatures[-1].instructions,
    )
