"""Converts programs to definitions for the dspy worker, and its descriptions to programs."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from dspex.errors import DefinitionError
from dspex.execution.backends.dspy_bridge.contracts import contract_of
from dspex.execution.backends.dspy_bridge.functions import (
    FIX,
    Callables,
    Functions,
    required_inputs,
)
from dspex.execution.backends.dspy_bridge.schemas import from_wire, full_description, to_wire
from dspex.execution.modules.citations import citation_plan
from dspex.execution.modules.kinds import dspy_problem
from dspex.execution.modules.settings import SETTINGS, normalize_setting
from dspex.language.programs import ROOT, Children, ModulePath, Node, Program
from dspex.language.signatures import Signature
from dspex.language.variables import Space, Variable

_LM_SETTINGS = (*SETTINGS, "rollout_id")
_SLOTS = {"instructions", "demos", "model", "adapter", *SETTINGS}
_LEARNED = {"instructions": "text", "demos": "examples"}
_RENAMED = {("rlm", "extract.predict"): "extract"}  # a ChainOfThought here, a Predict there
_CLASS_SETTINGS: Mapping[str, tuple[str, ...]] = {
    "program_of_thought": ("max_iters", "interpreter"),
    "code_act": ("max_iters", "interpreter"),
    "rlm": ("max_iters", "max_llm_calls", "sub_model", "interpreter"),
    "best_of_n": ("n", "threshold"),
    "refine": ("n", "threshold"),
    "majority": ("n", "field"),
    "multi_chain_comparison": ("n",),
    "parallel": ("concurrency",),
}


def lower(program: Program, functions: Functions) -> tuple[dict[str, Any], Callables]:
    """Return the definition of the root module for a worker, and the functions that run here.

    Raises:
        DefinitionError: dspy does not support a part of the program; the message names it.
    """
    if problem := dspy_problem(program.root):
        raise DefinitionError(f"{problem}: {FIX}")
    callables = Callables()
    definition = _module(program.root, functions, callables, path=ROOT)
    definition |= {"assigned": _assigned(program), "dspy": program.root.config.get("dspy", "")}
    if "state" in program.root.config:
        definition["state"] = program.root.config["state"]
    return definition, callables


def _assigned(program: Program) -> dict[str, dict[str, Any]]:
    """Return the values of the predictors by place: those that are declared, then the assigned."""
    places: dict[str, dict[str, Any]] = {}
    for place, values in values_by_place(program).items():
        if unknown := [
            slot for slot in values if slot not in _SLOTS and not slot.startswith("fields.")
        ]:
            raise DefinitionError(f"dspy cannot set {unknown[0]!r} of {place!r}: {FIX}")
        if slots := {
            slot: _slot_value(program.root.signature, slot, value)
            for slot, value in values.items()
            if slot != "adapter"
        }:
            places[place] = slots
    return places


def _module(
    node: Node, functions: Functions, callables: Callables, *, path: ModulePath
) -> dict[str, Any]:
    """Return the definition of the module at `path` and those inside it."""
    definition: dict[str, Any] = {"kind": node.kind}
    if node.kind in {"dspy", "dspy_retriever"}:
        return definition | _imported(node, functions, callables)
    if "reward" in node.config:
        definition["reward"], reward = functions.reward_of(node)
        definition["reward"]["place"] = str(path)
        if reward is not None:
            callables.rewards[str(path)] = reward
    inner = node.children.get("module")
    if isinstance(inner, Node):
        definition["module"] = _module(inner, functions, callables, path=path.child("module"))
        settings = _settings(node)
        if node.kind == "parallel":
            settings["required"] = required_inputs(node)
        return definition | {"settings": settings}
    return definition | _over_signature(node, functions, callables)


def _imported(node: Node, functions: Functions, callables: Callables) -> dict[str, Any]:
    definition: dict[str, Any] = {
        name: node.config[name] for name in ("target", "init", "source_hash") if name in node.config
    }
    if "target" not in definition:
        raise DefinitionError(
            f"the dspy node {node.id!r} has no target; give 'pkg.mod:Name' of its module"
        )
    tools = {**functions.named, **functions.tools_of(node)[0]}
    callables.tools.update(tools)
    return definition | ({"offered": sorted(tools)} if tools else {})


def _over_signature(node: Node, functions: Functions, callables: Callables) -> dict[str, Any]:
    if node.signature is None:
        raise DefinitionError(
            f"the node {node.id!r} of kind {node.kind!r} has no signature, so dspy cannot run it"
        )
    if checks := [name for name, _ in node.signature.output_checks]:
        raise DefinitionError(
            f"dspy does not support checks of outputs, and {', '.join(checks)} has one: {FIX}"
        )
    signature = _signature(node)
    plan = citation_plan(signature)
    definition: dict[str, Any] = {
        "signature": to_wire(signature if plan is None else plan.unbounded(signature)),
        "settings": _settings(node),
    }
    if node.kind == "code_act":
        return definition | {"sources": functions.sources_of(node)}
    tools, definition["tools"] = functions.tools_of(node)
    callables.tools.update(tools)
    return definition


def _slot_value(signature: Signature | None, slot: str, value: Any) -> Any:
    """Return an assigned value; a description keeps the constraints that dspy leaves out."""
    plan = None if signature is None else citation_plan(signature)
    if slot == "demos" and plan is not None:
        return [plan.demo(demo) for demo in value]
    name = slot.split(".")[1] if slot.startswith("fields.") else ""
    if signature is None or name not in signature.fields:
        return value
    return full_description(signature.fields[name], value)


def setting(node: Node, name: str) -> Any:
    """Return a setting of a module, or else of the predictor inside it."""
    inner = node.children.get("predict")
    return node.config.get(name, inner.config.get(name) if isinstance(inner, Node) else None)


def _signature(node: Node) -> Signature:
    """Return the signature of the inner predictor, whose descriptions may differ."""
    inner = node.children.get("predict")
    if (
        isinstance(inner, Node)
        and inner.signature is not None
        and "reasoning" in inner.signature.fields
    ):
        return inner.signature.remove("reasoning")
    assert node.signature is not None  # noqa: S101  # checked by the caller
    return node.signature


def _settings(node: Node) -> dict[str, Any]:
    """Return the arguments of dspy's class.

    Raises:
        DefinitionError: the class has no such argument.
    """
    if node.kind == "react":
        for name in ("max_tokens", "max_usd"):
            if node.config.get(name) is not None:
                raise DefinitionError(f"dspy's ReAct has no {name!r}: {FIX}")
        turns = node.config.get("max_turns", node.config.get("max_iters"))
        return {} if turns is None else {"max_iters": turns}
    if node.kind in _CLASS_SETTINGS:
        if node.config.get("interpreter", "sandbox") not in {"sandbox", "local"}:
            raise DefinitionError(
                f"interpreter is 'sandbox' or 'local', not {node.config['interpreter']!r}"
            )
        return {
            name: node.config[name] for name in _CLASS_SETTINGS[node.kind] if name in node.config
        }
    if setting(node, "nearest") is not None:
        raise DefinitionError(f"dspy's modules have no `nearest` demonstrations: {FIX}")
    if node.config.get("steps"):
        raise DefinitionError(f"dspy's ChainOfThought reasons in one text, not in steps: {FIX}")
    return {name: value for name in _LM_SETTINGS if (value := setting(node, name)) is not None}


def assignment_by_place(program: Program) -> dict[str, dict[str, Any]]:
    """Return the assignment by place: `{"predict": {"instructions": ..., "demos": [...]}}`.

    Raises:
        VariableError: the assignment violates a constraint.
    """
    places: dict[str, dict[str, Any]] = {}
    root = ModulePath.of(program.root.id)
    prefix = "" if root.is_root else f"{root}."
    for path, value in program.by_place().items():
        place, slot = _slot_of(path)
        inner = str(ROOT) if place == str(root) else ROOT.slot_of(place).removeprefix(prefix)
        places.setdefault(inner, {})[slot] = normalize_setting(slot, value)
    return places


def _slot_of(path: str) -> tuple[str, str]:
    """Split a path into a place and a slot; `fields.answer.desc` is one slot."""
    place, mark, rest = path.rpartition(".fields.")
    if mark:
        return place, f"fields.{rest}"
    place, _, slot = path.rpartition(".")
    return place, slot


def values_by_place(program: Program) -> dict[str, dict[str, Any]]:
    """Return what predictors declare and the program assigns, by place.

    A Predict or ChainOfThought that is the whole program is created with what it declares.
    """
    places: dict[str, dict[str, Any]] = {}
    kind = program.root.kind
    for path, node in _predictors_in(program.root, ROOT):
        if kind in {"predict", "chain_of_thought"}:
            continue
        if node.config.get("nearest") is not None:
            raise DefinitionError(f"dspy's modules have no `nearest` demonstrations: {FIX}")
        values = {
            slot: normalize_setting(slot, node.config[slot])
            for slot in ("model", "adapter", *SETTINGS)
            if node.config.get(slot) is not None
        }
        if values:
            places[_RENAMED.get((kind, str(path)), str(path))] = values
    for place, values in assignment_by_place(program).items():
        places.setdefault(_RENAMED.get((kind, place), place), {}).update(values)
    return places


def _predictors_in(node: Node, path: ModulePath) -> Iterator[tuple[ModulePath, Node]]:
    if node.kind == "predict":
        yield path, node
    for name, child in node.children.items():
        if isinstance(child, Node):
            yield from _predictors_in(child, path.child(name))


def models_of(program: Program) -> tuple[str, ...]:
    """Return the distinct models of predictors, apart from the model of the run."""
    models = [values["model"] for values in values_by_place(program).values() if "model" in values]
    return tuple(dict.fromkeys(models))


def adapter_of(program: Program) -> str | None:
    """Return the adapter that a program assigns or declares, None if the run decides.

    Raises:
        DefinitionError: it assigns several adapters; dspy has one for a whole program.
    """
    adapters = {
        str(values["adapter"])
        for values in values_by_place(program).values()
        if "adapter" in values
    }
    if len(adapters) > 1:
        raise DefinitionError(
            f"dspy has one adapter for a whole program, not {' and '.join(sorted(adapters))}"
        )
    return adapters.pop() if adapters else setting(program.root, "adapter")


def to_program(
    described: Mapping[str, Any], node: Node, *, signature: Signature | None, name: str
) -> Program:
    """Return the program of a dspy module, with nodes and variables for its predictors."""
    predictors, config = described["predictors"], dict(node.config)
    contract = signature
    if contract is None:
        contract, config["contract"] = contract_of(described, config.get("target", "the program"))
    return Program(
        name=name or contract.name,
        signature=contract,
        root=replace(node, signature=contract, config=config, children=_predictors(predictors)),
        space=space_of(predictors),
        assignment=values_of(predictors),
    )


def _predictors(predictors: Mapping[str, Any]) -> dict[str, Children]:
    """Return a node for each predictor inside a module, so that a search knows their tasks."""
    nodes: dict[str, Node] = {}
    for path, description in predictors.items():
        if ModulePath.of(path).is_root:
            continue
        try:
            nodes[path] = Node(
                id=path,
                kind="predict",
                signature=from_wire(description["signature"]),
                backend="dspy",
            )
        except DefinitionError:  # dspex cannot express its signature; it still runs
            continue
    return {"predictors": nodes} if nodes else {}


def state_mismatch(state: Mapping[str, Any], described: Mapping[str, Any]) -> str:
    """Return why a saved state does not fit a program with these predictors, "" if it fits."""
    predictors = described["predictors"]
    if list(predictors) == [str(ROOT)] and "signature" in state:
        state = {str(ROOT): state}  # dspy saves a lone Predict without a path
    expected, actual = ", ".join(predictors) or "none", ", ".join(state) or "none"
    if state.keys() != predictors.keys():
        return (
            f"the state belongs to a program with the predictors {actual}; this one has {expected}"
        )
    for path, predictor in predictors.items():
        state_fields = (
            state[path].get("signature", {}).get("fields", [])
            if isinstance(state[path], Mapping)
            else None
        )
        fields = [field["name"] for field in predictor["signature"]["fields"]]
        if state_fields is None or len(state_fields) != len(fields):
            count = "no" if state_fields is None else len(state_fields)
            return (
                f"the state has {count} fields for the predictor {path!r}, which has "
                f"{', '.join(fields)}"
            )
        if missing := _missing_parts(state[path]):
            return f"the state of the predictor {path!r} lacks {', '.join(missing)}"
    return ""


def _missing_parts(state: Mapping[str, Any]) -> list[str]:
    """Return the parts that dspy reads from a predictor's state and that are missing."""
    signature = state["signature"]
    missing = [] if isinstance(signature.get("instructions"), str) else ["signature.instructions"]
    for at, field in enumerate(signature["fields"]):
        entry = field if isinstance(field, Mapping) else {}
        missing += [
            f"signature.fields[{at}].{key}" for key in ("prefix", "description") if key not in entry
        ]
    demos = state.get("demos")
    if not isinstance(demos, list) or not all(isinstance(demo, Mapping) for demo in demos):
        missing.append("demos (a list of objects)")
    return missing if "lm" in state else [*missing, "lm"]


def space_of(predictors: Mapping[str, Any]) -> Space:
    """Return the variables of a program with these predictors."""
    variables = []
    for path in predictors:
        for slot, kind in _LEARNED.items():
            text = f"{path}.{slot}"
            variable = Variable(name=text, kind=kind, paths=(text,))  # type: ignore[arg-type]
            variables.append(variable)
    return Space(tuple(variables))


def with_learned_values(program: Program, predictors: Mapping[str, Any]) -> Program:
    """Return a program with the instructions and demonstrations that an optimizer of dspy found.

    Variables of other slots (such as a temperature) stay with their values, and so do constraints
    that do not read a replaced variable.
    """
    learned_space = space_of(predictors)
    other_variables = [
        variable
        for variable in program.space.values()
        if variable.name not in learned_space
        and not any(_slot_of(path)[1] in _LEARNED for path in variable.paths)
    ]
    names = {variable.name for variable in other_variables} | learned_space.keys()
    constraints = [rule for rule in program.space.constraints if rule.reads() <= names]
    values = {
        name: value
        for name, value in program.assignment.items()
        if name not in program.space or name in names
    }
    return replace(
        program,
        space=Space.derived((*learned_space.values(), *other_variables), constraints),
        assignment={
            **{name: value for name, value in values.items() if name not in learned_space},
            **values_of(predictors),
        },
    )


def values_of(predictors: Mapping[str, Any]) -> dict[str, Any]:
    """Return the assignment with the current values of these predictors, without empty demos."""
    values: dict[str, Any] = {}
    for path, predictor in predictors.items():
        values[f"{path}.instructions"] = predictor["signature"]["instructions"]
        if predictor["demos"]:
            values[f"{path}.demos"] = predictor["demos"]
    return values
