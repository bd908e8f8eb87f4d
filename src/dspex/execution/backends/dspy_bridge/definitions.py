"""Programs as the dspy worker creates them, and what it answers as programs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import TypeAdapter

from dspex.errors import DefinitionError
from dspex.execution.backends.dspy_bridge.contracts import contract_of
from dspex.execution.backends.dspy_bridge.schemas import described, from_wire, to_wire
from dspex.execution.backends.remote import Tools
from dspex.execution.modules import CodeRoot
from dspex.execution.modules.code import check_source
from dspex.execution.modules.settings import SETTINGS, normalize_setting
from dspex.language.programs import Children, Node, Program
from dspex.language.signatures import Signature
from dspex.language.variables import Space, Variable

_LM_SETTINGS = (*SETTINGS, "rollout_id")
_SLOTS = {"instructions", "demos", "model", "adapter", *SETTINGS}
_LEARNED = {"instructions": "text", "demos": "examples"}
_MEND = "leave it out, or run the program natively"


@dataclass(frozen=True, slots=True)
class Functions:
    """Where tools of programs come from: those that the backend was given by name, and functions in the code root."""

    named: Tools
    code: CodeRoot | None = None

    def of(self, node: Node) -> dict[str, Callable[..., Any]]:
        """Return the tools of `node` by name.

        Raises:
            DefinitionError: there is no such tool.
            ConflictError: the code of one has changed since the program was stored.
        """
        found: dict[str, Callable[..., Any]] = {}
        for tool in node.config.get("tools", ()):
            if isinstance(tool, str):
                if tool not in self.named:
                    known = ", ".join(self.named) or "none"
                    raise DefinitionError(f"the program uses a tool {tool!r}; this backend has: {known}")
                found[tool] = self.named[tool]
            elif unknown := sorted(tool.keys() - {"target", "source_hash", "init"}):
                raise DefinitionError(f"dspy's tools know no {', '.join(unknown)} ({tool}): {_MEND}")
            elif self.code is None:
                raise DefinitionError(f"the tool {tool['target']!r} is code, and code is not loaded here")
            else:
                function = self.code.load(tool["target"])
                check_source(function, tool)
                found[tool["target"].rpartition(":")[2].rpartition(".")[2]] = function
        return found


def lowered(program: Program, functions: Functions) -> tuple[dict[str, Any], Tools]:
    """Return what a worker needs to create the program's root as a dspy module, and the tools that answer here.

    Raises:
        DefinitionError: dspy has no module for it; the message says which part.
    """
    node = program.root
    places: dict[str, dict[str, Any]] = {}
    for place, values in assigned(program).items():
        if unknown := [slot for slot in values if slot not in _SLOTS and not slot.startswith("fields.")]:
            raise DefinitionError(f"dspy sets no {unknown[0]!r} of {place!r}: {_MEND}")
        if own := {slot: _told(node.signature, slot, value) for slot, value in values.items() if slot != "adapter"}:
            places[place] = own
    definition: dict[str, Any] = {"kind": node.kind, "assigned": places, "dspy": node.config.get("dspy", "")}
    if "state" in node.config:
        definition["state"] = node.config["state"]
    if node.kind == "dspy":
        definition |= {name: node.config[name] for name in ("target", "init", "source_hash") if name in node.config}
        if "target" not in definition:
            raise DefinitionError(f"the dspy node {node.id!r} names no target; give 'pkg.mod:Name' of its module")
        offered = {**functions.named, **functions.of(node)}
        if offered:
            definition["offered"] = sorted(offered)
        return definition, offered
    if node.signature is None:
        raise DefinitionError(f"the node {node.id!r} of kind {node.kind!r} has no signature, so dspy cannot run it")
    if checks := [name for name, _ in node.signature.output_checks]:
        raise DefinitionError(f"dspy keeps no checks of outputs, and {', '.join(checks)} has one: {_MEND}")
    tools = functions.of(node)
    shown = {
        "signature": to_wire(_signature(node)),
        "settings": _settings(node),
        "tools": [_described(name, function) for name, function in tools.items()],
    }
    return definition | shown, tools


def _told(signature: Signature | None, slot: str, value: Any) -> Any:  # noqa: ANN401  # any JSON value
    """Return an assigned value; a description goes on saying what dspy's prompt would not."""
    name = slot.split(".")[1] if slot.startswith("fields.") else ""
    if signature is None or name not in signature.fields:
        return value
    return described(signature.fields[name], value)


def setting(node: Node, name: str) -> Any:  # noqa: ANN401  # any JSON value
    """Return a setting of a module: its own, or that of the predictor inside it."""
    inner = node.children.get("predict")
    return node.config.get(name, inner.config.get(name) if isinstance(inner, Node) else None)


def _signature(node: Node) -> Signature:
    """Return the signature as the predictor has it: descriptions may have been changed there."""
    inner = node.children.get("predict")
    if isinstance(inner, Node) and inner.signature is not None and "reasoning" in inner.signature.fields:
        return inner.signature.remove("reasoning")
    assert node.signature is not None  # noqa: S101  # the caller has looked
    return node.signature


def _settings(node: Node) -> dict[str, Any]:
    if node.kind == "react":
        for name in ("max_tokens", "max_usd"):
            if node.config.get(name) is not None:
                raise DefinitionError(f"dspy's ReAct has no {name!r}: {_MEND}")
        turns = node.config.get("max_turns", node.config.get("max_iters"))
        return {} if turns is None else {"max_iters": turns}
    if node.config.get("steps"):
        raise DefinitionError(f"dspy's ChainOfThought reasons in one text, not in steps: {_MEND}")
    if node.kind == "program_of_thought":
        if node.config.get("interpreter", "sandbox") not in {"sandbox", "local"}:
            raise DefinitionError(f"interpreter is 'sandbox' or 'local', not {node.config['interpreter']!r}")
        return {name: node.config[name] for name in ("max_iters", "interpreter") if name in node.config}
    return {name: value for name in _LM_SETTINGS if (value := setting(node, name)) is not None}


def _described(name: str, function: Callable[..., Any]) -> dict[str, Any]:
    adapter: TypeAdapter[Any] = TypeAdapter(function)  # type: ignore[arg-type]  # a function is a type to pydantic
    schema = adapter.json_schema()
    return {"name": name, "desc": (function.__doc__ or name).strip(), "args": schema.get("properties", {})}


def assigned(program: Program) -> dict[str, dict[str, Any]]:
    """Return the assignment by place: `{"predict": {"instructions": ..., "demos": [...]}}`.

    Raises:
        VariableError: a constraint refuses the assignment.
    """
    places: dict[str, dict[str, Any]] = {}
    prefix = "" if program.root.id == "self" else f"{program.root.id}."
    for path, value in program.by_place().items():
        place, slot = _slot_of(path)
        inner = "self" if place == program.root.id else place.removeprefix("self.").removeprefix(prefix)
        places.setdefault(inner, {})[slot] = normalize_setting(slot, value)
    return places


def _slot_of(path: str) -> tuple[str, str]:
    """Return where a path leads, and the slot there: `fields.answer.desc` is one slot."""
    place, mark, rest = path.rpartition(".fields.")
    if mark:
        return place, f"fields.{rest}"
    place, _, slot = path.rpartition(".")
    return place, slot


def models_of(program: Program) -> tuple[str, ...]:
    """Return the models that predictors of a program are assigned, each once."""
    found = [values["model"] for values in assigned(program).values() if "model" in values]
    return tuple(dict.fromkeys(found))


def adapter_of(program: Program) -> str | None:
    """Return the adapter that a program is assigned or declares, None where it leaves that to the run.

    Raises:
        DefinitionError: its predictors are assigned several; dspy has one for a whole program.
    """
    found = {str(values["adapter"]) for values in assigned(program).values() if "adapter" in values}
    if len(found) > 1:
        raise DefinitionError(f"dspy has one adapter for a whole program, not {' and '.join(sorted(found))}")
    return found.pop() if found else setting(program.root, "adapter")


def imported(described: Mapping[str, Any], node: Node, *, signature: Signature | None, name: str) -> Program:
    """Return the program of a dspy module: its node above those of its predictors, its variables and their values."""
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


def _predictors(told: Mapping[str, Any]) -> dict[str, Children]:
    """Return a node for each predictor inside a module, so that a search knows what each of them is to do."""
    found: dict[str, Node] = {}
    for path, one in told.items():
        if path == "self":
            continue
        try:
            found[path] = Node(id=path, kind="predict", signature=from_wire(one["signature"]), backend="dspy")
        except DefinitionError:  # it has no signature of ours: it runs all the same
            continue
    return {"predictors": found} if found else {}


def unfit_state(state: Mapping[str, Any], described: Mapping[str, Any]) -> str:
    """Return what is wrong with a saved state for a program with these predictors, empty where it fits."""
    predictors = described["predictors"]
    if list(predictors) == ["self"] and "signature" in state:
        state = {"self": state}  # a lone Predict is saved without a path
    wanted, given = ", ".join(predictors) or "none", ", ".join(state) or "none"
    if state.keys() != predictors.keys():
        return f"the state is of a program with the predictors {given}; this one has {wanted}"
    for path, told in predictors.items():
        found = state[path].get("signature", {}).get("fields", []) if isinstance(state[path], Mapping) else None
        fields = [field["name"] for field in told["signature"]["fields"]]
        if found is None or len(found) != len(fields):
            count = "no" if found is None else len(found)
            return f"the state has {count} fields for the predictor {path!r}, which has {', '.join(fields)}"
        if lacking := _lacking(state[path]):
            return f"the state of the predictor {path!r} lacks {', '.join(lacking)}"
    return ""


def _lacking(state: Mapping[str, Any]) -> list[str]:
    """Return the parts that dspy reads of a predictor's state and that are not there."""
    signature = state["signature"]
    lacking = [] if isinstance(signature.get("instructions"), str) else ["signature.instructions"]
    for at, field in enumerate(signature["fields"]):
        known = field if isinstance(field, Mapping) else {}
        lacking += [f"signature.fields[{at}].{key}" for key in ("prefix", "description") if key not in known]
    demos = state.get("demos")
    if not isinstance(demos, list) or not all(isinstance(demo, Mapping) for demo in demos):
        lacking.append("demos (a list of objects)")
    return lacking if "lm" in state else [*lacking, "lm"]


def space_of(predictors: Mapping[str, Any]) -> Space:
    """Return the variables of a program with these predictors."""
    variables = []
    for path in predictors:
        for slot, kind in _LEARNED.items():
            text = f"{path}.{slot}"
            variables.append(Variable(name=text, kind=kind, paths=(text,)))  # type: ignore[arg-type]
    return Space(tuple(variables))


def learned(program: Program, predictors: Mapping[str, Any]) -> Program:
    """Return a program with the instructions and demonstrations that an optimizer of dspy gave its predictors.

    Variables of other slots (a temperature) stay, with their values and what does not read a replaced variable.
    """
    made = space_of(predictors)
    kept = [
        variable
        for variable in program.space.values()
        if variable.name not in made and not any(_slot_of(path)[1] in _LEARNED for path in variable.paths)
    ]
    names = {variable.name for variable in kept} | made.keys()
    constraints = [rule for rule in program.space.constraints if rule.reads() <= names]
    values = {name: value for name, value in program.assignment.items() if name not in program.space or name in names}
    return replace(
        program,
        space=Space.derived((*made.values(), *kept), constraints),
        assignment={**{name: value for name, value in values.items() if name not in made}, **values_of(predictors)},
    )


def values_of(predictors: Mapping[str, Any]) -> dict[str, Any]:
    """Return an assignment of what these predictors say now; empty demonstrations are left out."""
    values: dict[str, Any] = {}
    for path, told in predictors.items():
        values[f"{path}.instructions"] = told["signature"]["instructions"]
        if told["demos"]:
            values[f"{path}.demos"] = told["demos"]
    return values
