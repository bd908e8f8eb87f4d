"""Creates dspy programs from definitions: modules over our signatures, and modules of users."""

import asyncio
import hashlib
import importlib
import inspect
import linecache
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

import dspy

from . import compat
from .contracts import contract_of
from .retrievers import RetrieverProgram
from .signatures import from_dspy, to_dspy
from .values import plain
from .wrappers import DraftComparison, MajorityVote, Rows, best_of_n, refine

_HASH_NAME = "__dspex_source_hash__"


class DefinitionError(ValueError):
    """The definition does not describe a valid dspy program."""

    code = "definition"


class ChangedError(ValueError):
    """The code of a program has changed since the program was stored."""

    code = "conflict"


class StaleError(ValueError):
    """This worker has loaded outdated code of the program; a new worker will load the new code."""

    code = "stale"


def create(definition: "dict[str, Any]", model_named: "Callable[[str], Any]") -> Any:
    """Return the dspy module that `definition` describes, with its state and assignment.

    `model_named` creates the dspy model of a predictor that has its own.

    Raises:
        DefinitionError: the kind, the target or the version of dspy does not fit.
    """
    if not compat.satisfies(definition.get("dspy", "")):
        raise DefinitionError(
            f"the program needs dspy {definition['dspy']}, this worker has {compat.VERSION}: "
            "run it on a pool whose interpreter has that version"
        )
    program = _module(definition, model_named)
    if definition.get("state"):
        load_state(program, definition["state"])
    predictors = dict(program.named_predictors())
    for path, values in definition.get("assigned", {}).items():
        predictor = _predictor(predictors, path)
        for slot, value in values.items():
            if slot == "model":
                predictor.lm = model_named(value)
            else:
                _assign(predictor, slot, value)
    return program


def _module(definition: "dict[str, Any]", model_named: "Callable[[str], Any]") -> Any:
    kind = definition["kind"]
    if "module" in definition and kind in _WRAPPERS:
        return _WRAPPERS[kind](definition, _module(definition["module"], model_named))
    if kind not in _KINDS:
        raise DefinitionError(
            f"dspy has no module of kind {kind!r}; kinds are: {', '.join([*_KINDS, *_WRAPPERS])}"
        )
    module = _KINDS[kind](definition)
    if sub_model := definition.get("settings", {}).get("sub_model"):
        module.sub_lm = model_named(sub_model)
    return module


def load_state(program: Any, state: "dict[str, Any]") -> None:
    """Load a state that dspy saved into a program.

    Raises:
        DefinitionError: the state belongs to another program; the message names what is missing.
    """
    try:
        program.load_state(state)
    except Exception as error:  # dspy raises all kinds of errors for a wrong state
        what = (
            f"it lacks {error}"
            if isinstance(error, KeyError)
            else f"{type(error).__name__}: {error}"
        )
        raise DefinitionError(
            f"the state does not load into {type(program).__name__}: {what}"
        ) from error


def _predictor(predictors: "dict[str, Any]", path: str) -> Any:
    name = path if path in predictors or len(predictors) > 1 else next(iter(predictors))
    if name not in predictors:
        raise DefinitionError(
            f"the dspy program has no predictor {path!r}; it has: {', '.join(predictors)}"
        )
    return predictors[name]


def _assign(predictor: Any, slot: str, value: Any) -> None:
    """Set instructions, demonstrations, the description of a field, or a setting of the model."""
    if slot == "instructions":
        predictor.signature = predictor.signature.with_instructions(value)
    elif slot == "demos":
        predictor.demos = [dspy.Example(**demo) for demo in value]
    elif slot.startswith("fields."):
        predictor.signature = predictor.signature.with_updated_fields(
            slot.split(".")[1], desc=value
        )
    else:
        predictor.config = {**predictor.config, slot: value}


def _over_signature(cls: Any, **fixed: Any) -> Any:
    def make(definition: "dict[str, Any]") -> Any:
        return cls(to_dspy(definition["signature"]), **fixed, **definition.get("settings", {}))

    return make


def _with_interpreter(cls: Any) -> Any:
    """Return the maker of a module that runs code: in its sandbox, or in a process of its own."""

    def make(definition: "dict[str, Any]") -> Any:
        settings = dict(definition.get("settings", {}))
        settings.pop("sub_model", None)
        if settings.pop("interpreter", "sandbox") == "local":
            if compat.local_interpreter is None:
                raise DefinitionError(
                    f"dspy {compat.VERSION} has no local interpreter; leave 'interpreter' out, or "
                    "use 3.4"
                )
            settings["interpreter_factory"] = compat.local_interpreter
        if "sources" in definition:
            settings["tools"] = [_function(item) for item in definition["sources"]]
        return cls(to_dspy(definition["signature"]), **settings)

    return make


def _function(item: "dict[str, str]") -> Any:
    """Return a function by its source, which dspy reads again with `inspect`."""
    name, source = item["name"], item["source"]
    file = f"<tool {name} {hashlib.blake2b(source.encode(), digest_size=8).hexdigest()}>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    namespace: dict[str, Any] = {}
    try:
        exec(compile(source, file, "exec"), namespace)  # noqa: S102  # the user's own tool
    except Exception as error:
        raise DefinitionError(
            f"the tool {name!r} does not run alone ({type(error).__name__}: {error}): dspy's "
            "CodeAct copies the source of a function, without the module around it"
        ) from error
    return namespace[name]


def _react(definition: "dict[str, Any]") -> Any:
    tools = [
        dspy.Tool(
            _remote_tool(tool["name"]), name=tool["name"], desc=tool["desc"], args=tool["args"]
        )
        for tool in definition.get("tools", ())
    ]
    settings = {
        key: value for key, value in definition.get("settings", {}).items() if key in {"max_iters"}
    }
    return dspy.ReAct(to_dspy(definition["signature"]), tools=tools, **settings)


def _remote_tool(name: str) -> Any:
    def run(**arguments: Any) -> Any:
        return compat.setting("dspex_call").callback("tool", {"name": name, "arguments": arguments})

    run.__name__ = name
    return run


def _imported(target: str) -> Any:
    module_name, _, name = target.partition(":")
    try:
        return getattr(importlib.import_module(module_name), name)
    except Exception as error:  # importing runs the user's code, which may raise anything
        raise DefinitionError(
            f"cannot import {target!r}: {type(error).__name__}: {error}"
        ) from error


def _retriever(definition: "dict[str, Any]") -> Any:
    """Return a program around the retriever at an import path; a class is created first."""
    target = definition["target"]
    retriever = _imported(target)
    if isinstance(retriever, type):
        try:
            retriever = retriever(**definition.get("init", {}))
        except Exception as error:  # the user's code
            raise DefinitionError(
                f"{target!r} cannot be created: {type(error).__name__}: {error}"
            ) from error
    if not callable(retriever):
        raise DefinitionError(
            f"{target!r} is not a retriever of dspy but {type(retriever).__name__}: call it with a "
            "query, as dspy.Retrieve and dspy.Embeddings are"
        )
    return RetrieverProgram(retriever)


def _user_module(definition: "dict[str, Any]") -> Any:
    target = definition["target"]
    module = _imported(target)
    if not isinstance(module, dspy.Module) and not (
        isinstance(module, type) and issubclass(module, dspy.Module)
    ):
        classes = (module if isinstance(module, type) else type(module)).__mro__
        is_native = any(cls.__module__.partition(".")[0] == "dspex" for cls in classes)
        hint = f"; it is a program of dspex, which needs no import: dspex run {target}"
        raise DefinitionError(
            f"{target!r} is not a dspy module but {type(module).__name__}"
            f"{hint if is_native else ''}"
        )
    expected_hash = definition.get("source_hash")
    if expected_hash and expected_hash != _source_hash(module):
        if expected_hash == _file_hash(module):
            raise StaleError(f"this worker has loaded outdated code of {target!r}")
        raise ChangedError(
            f"the code of {target!r} has changed since the program was imported: import it again"
        )
    _add_forward(_class_of(module))
    if not isinstance(module, type):
        return _with_remote_tools(module.deepcopy(), definition)
    try:
        return _with_remote_tools(module(**definition.get("init", {})), definition)
    except TypeError as error:
        raise DefinitionError(
            f"{target!r} cannot be created with {definition.get('init', {})!r}: {error}; give its "
            "arguments (init)"
        ) from error


def _add_forward(cls: Any) -> None:
    """Add `forward` to a module that has only `aforward`: each call runs a new event loop.

    dspy's optimizers and threads call modules synchronously, and so does the host.
    """
    if hasattr(cls, "forward") or not hasattr(cls, "aforward"):
        return

    @wraps(cls.aforward)
    def forward(self: Any, *args: Any, **inputs: Any) -> Any:
        return asyncio.run(self.aforward(*args, **inputs))

    cls.forward = forward


def _with_remote_tools(program: Any, definition: "dict[str, Any]") -> Any:
    """Run the tools that the parent offers there; other tools of a user's module run here."""
    if not hasattr(type(program), "forward"):
        raise DefinitionError(f"{definition['target']!r} has no forward (or aforward): define one")
    remote_names = set(definition.get("offered", ()))
    for _, module in program.named_sub_modules() if remote_names else ():
        tools = getattr(module, "tools", None)
        if isinstance(tools, dict):
            for name in remote_names & tools.keys():
                tools[name] = tools[name].model_copy(update={"func": _remote_tool(name)})
    return program


def _source_hash(module: Any) -> str:
    """Return the hash of the code that this process has loaded; the file may change later."""
    namespace = vars(sys.modules[_class_of(module).__module__])
    if _HASH_NAME not in namespace:
        namespace[_HASH_NAME] = _file_hash(module)
    return str(namespace[_HASH_NAME])


def _file_hash(module: Any) -> str:
    """Return the BLAKE2b-256 hash of the file of a module's class, "" without a file."""
    try:
        with open(inspect.getsourcefile(_class_of(module)) or "", "rb") as file:
            return hashlib.blake2b(file.read(), digest_size=32).hexdigest()
    except (OSError, TypeError):
        return ""


def _class_of(module: Any) -> Any:
    return module if isinstance(module, type) else type(module)


_KINDS: "dict[str, Any]" = {
    "predict": _over_signature(dspy.Predict),
    "chain_of_thought": _over_signature(dspy.ChainOfThought),
    "program_of_thought": _with_interpreter(dspy.ProgramOfThought),
    "code_act": _with_interpreter(dspy.CodeAct),
    "rlm": _with_interpreter(dspy.RLM),
    "multi_chain_comparison": _over_signature(DraftComparison),
    "react": _react,
    "dspy": _user_module,
    "dspy_retriever": _retriever,
}
_WRAPPERS: "dict[str, Any]" = {
    "best_of_n": best_of_n,
    "refine": refine,
    "majority": lambda definition, module: MajorityVote(module, **definition["settings"]),
    "parallel": lambda definition, module: Rows(module, **definition["settings"]),
}


def describe_program(program: Any) -> "dict[str, Any]":
    """Return the predictors of a program, and the contract that its code implies."""
    return {
        "predictors": describe_predictors(program),
        "contract": contract_of(program),
        "dspy": compat.VERSION,
        "source_hash": _source_hash(program),
    }


def describe_predictors(program: Any) -> "dict[str, Any]":
    """Return the predictors of a program by path: signature, instructions and demonstrations."""
    return {
        path: {
            "signature": from_dspy(predictor.signature),
            "demos": [_demo(demo) for demo in predictor.demos],
        }
        for path, predictor in program.named_predictors()
    }


def _demo(demo: Any) -> "dict[str, Any]":
    return plain({key: value for key, value in dict(demo).items() if not key.startswith("dspy_")})
