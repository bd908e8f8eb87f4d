"""dspy programs from definitions: modules over our signatures, and modules that users wrote."""

import asyncio
import hashlib
import importlib
import inspect
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

import dspy

from . import compat
from .contracts import contract_of
from .signatures import from_dspy, to_dspy
from .values import plain

_SEEN = "__dspex_source_hash__"


class DefinitionError(ValueError):
    """The definition cannot become a dspy program."""

    code = "definition"


class ChangedError(ValueError):
    """The code of a program is not what it was when the program was stored."""

    code = "conflict"


class StaleError(ValueError):
    """This worker has loaded older code than the program was stored with; a new worker has not."""

    code = "stale"


def create(definition: "dict[str, Any]", own_model: "Callable[[str], Any]") -> Any:  # noqa: ANN401  # a dspy module
    """Return the dspy module that `definition` describes, its state and assignment applied.

    `own_model` makes the model of dspy for a predictor that is assigned one.

    Raises:
        DefinitionError: the kind, the target or the version of dspy does not fit.
    """
    if not compat.satisfies(definition.get("dspy", "")):
        raise DefinitionError(
            f"the program wants dspy {definition['dspy']}, this worker has {compat.VERSION}: "
            "run it on a pool whose interpreter has that version"
        )
    maker = _KINDS.get(definition["kind"])
    if maker is None:
        raise DefinitionError(f"dspy runs no module of kind {definition['kind']!r}; kinds are: {', '.join(_KINDS)}")
    program = maker(definition)
    if definition.get("state"):
        load_state(program, definition["state"])
    predictors = dict(program.named_predictors())
    for path, values in definition.get("assigned", {}).items():
        predictor = _predictor(predictors, path)
        for slot, value in values.items():
            if slot == "model":
                predictor.lm = own_model(value)
            else:
                _assign(predictor, slot, value)
    return program


def load_state(program: Any, state: "dict[str, Any]") -> None:  # noqa: ANN401
    """Give a program a state that dspy saved.

    Raises:
        DefinitionError: the state is not one of this program; what is missing is named.
    """
    try:
        program.load_state(state)
    except Exception as error:  # dspy reads the parts of a state as it finds them
        what = f"it lacks {error}" if isinstance(error, KeyError) else f"{type(error).__name__}: {error}"
        raise DefinitionError(f"the state does not load into {type(program).__name__}: {what}") from error


def _predictor(predictors: "dict[str, Any]", path: str) -> Any:  # noqa: ANN401
    name = path if path in predictors or len(predictors) > 1 else next(iter(predictors))
    if name not in predictors:
        raise DefinitionError(f"the dspy program has no predictor {path!r}; it has: {', '.join(predictors)}")
    return predictors[name]


def _assign(predictor: Any, slot: str, value: Any) -> None:  # noqa: ANN401
    """Set instructions, demonstrations, the description of a field, or what the predictor passes to its model."""
    if slot == "instructions":
        predictor.signature = predictor.signature.with_instructions(value)
    elif slot == "demos":
        predictor.demos = [dspy.Example(**demo) for demo in value]
    elif slot.startswith("fields."):
        predictor.signature = predictor.signature.with_updated_fields(slot.split(".")[1], desc=value)
    else:
        predictor.config = {**predictor.config, slot: value}


def _over_signature(cls: Any, **fixed: Any) -> Any:  # noqa: ANN401
    def make(definition: "dict[str, Any]") -> Any:  # noqa: ANN401
        return cls(to_dspy(definition["signature"]), **fixed, **definition.get("settings", {}))

    return make


def _program_of_thought(definition: "dict[str, Any]") -> Any:  # noqa: ANN401
    settings = dict(definition.get("settings", {}))
    if settings.pop("interpreter", "sandbox") == "local":
        if compat.local_interpreter is None:
            raise DefinitionError(
                f"dspy {compat.VERSION} has no local interpreter; leave 'interpreter' out, or use 3.4"
            )
        settings["interpreter_factory"] = compat.local_interpreter
    return dspy.ProgramOfThought(to_dspy(definition["signature"]), **settings)


def _react(definition: "dict[str, Any]") -> Any:  # noqa: ANN401
    tools = [
        dspy.Tool(_remote_tool(tool["name"]), name=tool["name"], desc=tool["desc"], args=tool["args"])
        for tool in definition.get("tools", ())
    ]
    settings = {key: value for key, value in definition.get("settings", {}).items() if key in {"max_iters"}}
    return dspy.ReAct(to_dspy(definition["signature"]), tools=tools, **settings)


def _remote_tool(name: str) -> Any:  # noqa: ANN401
    def run(**arguments: Any) -> Any:  # noqa: ANN401
        return compat.setting("dspex_call").callback("tool", {"name": name, "arguments": arguments})

    run.__name__ = name
    return run


def _user_module(definition: "dict[str, Any]") -> Any:  # noqa: ANN401
    target = definition["target"]
    module_name, _, name = target.partition(":")
    try:
        found = getattr(importlib.import_module(module_name), name)
    except Exception as error:  # importing runs the user's code, which may raise anything
        raise DefinitionError(f"cannot import {target!r}: {type(error).__name__}: {error}") from error
    if not isinstance(found, dspy.Module) and not (isinstance(found, type) and issubclass(found, dspy.Module)):
        raise DefinitionError(f"{target!r} is no dspy module but {type(found).__name__}")
    wanted = definition.get("source_hash")
    if wanted and wanted != _source_hash(found):
        if wanted == _file_hash(found):
            raise StaleError(f"this worker has loaded older code of {target!r}")
        raise ChangedError(f"the code of {target!r} is not what the program was imported from: import it again")
    _synchronous(_class(found))
    if not isinstance(found, type):
        return _tooled(found.deepcopy(), definition)
    try:
        return _tooled(found(**definition.get("init", {})), definition)
    except TypeError as error:
        raise DefinitionError(
            f"{target!r} cannot be made with {definition.get('init', {})!r}: {error}; give its arguments (init)"
        ) from error


def _synchronous(cls: Any) -> None:  # noqa: ANN401
    """Let a module that has only `aforward` be called like any other: each call is a loop of its own.

    dspy's optimizers and its threads call modules synchronously, and so does the host.
    """
    if hasattr(cls, "forward") or not hasattr(cls, "aforward"):
        return

    @wraps(cls.aforward)
    def forward(self: Any, *args: Any, **inputs: Any) -> Any:  # noqa: ANN401
        return asyncio.run(self.aforward(*args, **inputs))

    cls.forward = forward


def _tooled(program: Any, definition: "dict[str, Any]") -> Any:  # noqa: ANN401
    """Let tools that the parent offers answer there; all others of a user's module are its own code, and run here."""
    if not hasattr(type(program), "forward"):
        raise DefinitionError(f"{definition['target']!r} has no forward (or aforward): write there what it does")
    offered = set(definition.get("offered", ()))
    for _, module in program.named_sub_modules() if offered else ():
        tools = getattr(module, "tools", None)
        if isinstance(tools, dict):
            for name in offered & tools.keys():
                tools[name] = tools[name].model_copy(update={"func": _remote_tool(name)})
    return program


def _source_hash(found: Any) -> str:  # noqa: ANN401  # a module or a class of one
    """Return the hash of the code that this process has loaded: the file may change while the process goes on."""
    loaded = vars(sys.modules[_class(found).__module__])
    if _SEEN not in loaded:
        loaded[_SEEN] = _file_hash(found)
    return str(loaded[_SEEN])


def _file_hash(found: Any) -> str:  # noqa: ANN401
    """Return BLAKE2b-256 over the file of a module's class, empty where it has none."""
    try:
        with open(inspect.getsourcefile(_class(found)) or "", "rb") as file:
            return hashlib.blake2b(file.read(), digest_size=32).hexdigest()
    except (OSError, TypeError):
        return ""


def _class(found: Any) -> Any:  # noqa: ANN401
    return found if isinstance(found, type) else type(found)


_KINDS: "dict[str, Any]" = {
    "predict": _over_signature(dspy.Predict),
    "chain_of_thought": _over_signature(dspy.ChainOfThought),
    "program_of_thought": _program_of_thought,
    "react": _react,
    "dspy": _user_module,
}


def described(program: Any) -> "dict[str, Any]":  # noqa: ANN401
    """Return the predictors of a program, and its contract as its code tells it."""
    return {
        "predictors": describe(program),
        "contract": contract_of(program),
        "dspy": compat.VERSION,
        "source_hash": _source_hash(program),
    }


def describe(program: Any) -> "dict[str, Any]":  # noqa: ANN401
    """Return the predictors of a program by path: signature, instructions and demonstrations."""
    return {
        path: {"signature": from_dspy(predictor.signature), "demos": [_demo(demo) for demo in predictor.demos]}
        for path, predictor in program.named_predictors()
    }


def _demo(demo: Any) -> "dict[str, Any]":  # noqa: ANN401
    return plain({key: value for key, value in dict(demo).items() if not key.startswith("dspy_")})
