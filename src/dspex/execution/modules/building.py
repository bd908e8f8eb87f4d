"""Modules to programs and back: the tree that runs, and the data that is stored."""

import hashlib
import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from dspex.errors import ConflictError, DefinitionError, boundary, suggest
from dspex.execution.modules.function import FunctionModule
from dspex.execution.modules.module import Module
from dspex.execution.modules.predict import Predict
from dspex.language.programs import Children, Node, Program
from dspex.language.signatures.codec import plain
from dspex.language.variables import Assignment, Space, Variable

M = TypeVar("M", bound=Module)


@dataclass(frozen=True, slots=True)
class CodeRoot:
    """The folder that modules which users wrote are imported from; `name` is what jobs call it."""

    folder: Path
    name: str = "default"

    def load(self, target: str) -> Any:  # noqa: ANN401  # whatever the target names
        """Return the object behind "pkg.mod:name" in this folder.

        Raises:
            DefinitionError: no such module or name, or the file lies outside the folder.
        """
        module_name, _, name = target.partition(":")
        if not module_name or not name:
            raise DefinitionError(f"a code target looks like 'pkg.mod:name', not {target!r}")
        if str(self.folder) not in sys.path:
            sys.path.insert(0, str(self.folder))
        with boundary(DefinitionError, f"cannot import {module_name!r} from {str(self.folder)!r}"):
            module = importlib.import_module(module_name)
        file = Path(module.__file__ or "").resolve()
        if not file.is_relative_to(self.folder.resolve()):
            raise DefinitionError(f"{target!r} lies outside the code root {str(self.folder)!r}: it is {str(file)!r}")
        try:
            return getattr(module, name)
        except AttributeError:
            hint = suggest(name, [known for known in vars(module) if not known.startswith("_")])
            raise DefinitionError(f"module {module_name!r} has no {name!r}.{hint}") from None


def program_of(module: Module, name: str = "") -> Program:
    """Return `module` as data; see `Module.to_program`."""
    variables: list[Variable] = []
    assignment: dict[str, Any] = {}
    for path, part in module.named_modules():
        if isinstance(part, Predict):
            variables.append(Variable(name=f"{path}.instructions", kind="text", paths=(f"{path}.instructions",)))
            variables.append(Variable(name=f"{path}.demos", kind="examples", paths=(f"{path}.demos",)))
            if part.demos:
                assignment[f"{path}.demos"] = plain(part.demos)
    signature = module.contract()
    return Program(
        name=name or signature.name,
        signature=signature,
        root=_node(module, "self"),
        space=Space(tuple(variables)),
        assignment=assignment,
    )


def _node(module: Module, path: str) -> Node:
    if type(module) is Predict:
        return Node(id=path, kind="predict", signature=module.signature, config=_predict_config(module, path))
    if isinstance(module, Predict):
        raise DefinitionError(
            f"{type(module).__name__} at {path!r} extends Predict; hold a Predict in a Module instead"
        )
    below = {"" if path == "self" else f"{path}."}.pop()
    children: dict[str, Children] = {rel: _node(child, f"{below}{rel}") for rel, child in module.children()}
    return Node(id=path, kind="python", config=_code_config(module), children=children)


def _predict_config(module: Predict, path: str) -> dict[str, Any]:
    config: dict[str, Any] = dict(plain(module.settings))
    if module.model is not None:
        config["model"] = module.model if isinstance(module.model, str) else module.model.name
    if module.adapter is not None:
        if module.adapter.name not in {"chat", "json"}:
            raise DefinitionError(
                f"the adapter of {path!r} is an object of your own and cannot be stored; use 'chat' or 'json'"
            )
        config["adapter"] = module.adapter.name
    return config


def _code_config(module: Module) -> dict[str, Any]:
    if isinstance(module, FunctionModule):
        return _function_config(module)
    cls = type(module)
    if "<locals>" in cls.__qualname__ or cls.__module__ == "__main__":
        raise DefinitionError(
            f"{cls.__qualname__} cannot be found by import; define it at the top of a module file to store "
            "programs of it"
        )
    args, kwargs = module.__dict__["_init"]
    bound = inspect.signature(cls.__init__).bind(module, *args, **kwargs)
    init = {name: _json_argument(cls, name, value) for name, value in list(bound.arguments.items())[1:]}
    return {"target": f"{cls.__module__}:{cls.__qualname__}", "init": init, "source_hash": source_hash(cls)}


def _function_config(module: FunctionModule) -> dict[str, Any]:
    function = module.function
    if "<locals>" in function.__qualname__ or function.__module__ == "__main__":
        raise DefinitionError(f"the function {function.__qualname__} is not at the top of a module file; move it there")
    target = f"{function.__module__}:{function.__qualname__}"
    return {"target": target, "init": {}, "source_hash": source_hash(function)}


def _json_argument(cls: type, name: str, value: object) -> object:
    try:
        return msgspec.json.decode(msgspec.json.encode(value))
    except (TypeError, ValueError) as error:
        raise DefinitionError(
            f"the constructor argument {name!r} of {cls.__name__} is no JSON value ({type(value).__name__}), "
            "so a stored program could not be rebuilt; pass names or settings instead"
        ) from error


def source_hash(code: type | Callable[..., Any]) -> str:
    """Return BLAKE2b-256 over the source file of a class or function."""
    file = inspect.getsourcefile(code)
    if file is None:
        raise DefinitionError(f"{code.__qualname__} has no source file")
    return hashlib.blake2b(Path(file).read_bytes(), digest_size=32).hexdigest()


def build(program: Program, *, code: CodeRoot | None = None) -> Module:
    """Return the runnable tree of `program`, its assignment applied.

    Args:
        program: what to build.
        code: where modules that users wrote are imported from; without it a program that has any is refused.

    Raises:
        DefinitionError: a kind is unknown, or code is needed and not allowed.
        ConflictError: the code has changed since the program was stored.
    """
    module = _built(program.root, code)
    parts = dict(module.named_modules())
    for name, value in program.assignment.items():
        variable = program.space.get(name)
        for path in variable.paths if variable is not None else (name,):
            _bind(parts, path, value)
    return module


def _built(node: Node, code: CodeRoot | None) -> Module:
    maker = _KINDS.get(node.kind)
    if maker is None:
        raise DefinitionError(f"there is no kind of module {node.kind!r}; kinds are: {', '.join(_KINDS)}")
    return maker(node, code)


def _predict(node: Node, code: CodeRoot | None) -> Module:
    del code
    if node.signature is None:
        raise DefinitionError(f"the node {node.id!r} has no signature")
    return Predict(node.signature, **node.config)


def _python(node: Node, code: CodeRoot | None) -> Module:
    target = node.config.get("target", "")
    if code is None:
        raise DefinitionError(f"{target!r} is code, and code is not loaded here: run it from the folder that holds it")
    cls = code.load(target)
    if isinstance(cls, FunctionModule):
        _check_source(cls.function, node)
        return cls
    if not (isinstance(cls, type) and issubclass(cls, Module)):
        raise DefinitionError(f"{target!r} is no Module class")
    _check_source(cls, node)
    args = inspect.signature(cls.__init__)
    made = _called(cls, args, node.config.get("init", {}))
    stored = {child.id for child in node.walk()}
    found = {path if node.id == "self" or path == "self" else f"{node.id}.{path}" for path, _ in made.named_modules()}
    if missing := stored - found - {node.id}:
        raise ConflictError(f"{target!r} has no longer the parts {', '.join(sorted(missing))}")
    return made


def _check_source(code: type | Callable[..., Any], node: Node) -> None:
    if source_hash(code) != node.config.get("source_hash"):
        target = node.config["target"]
        raise ConflictError(f"the code of {target!r} has changed since the program was stored; store it again")


def _called(cls: type[Module], parameters: inspect.Signature, init: Mapping[str, Any]) -> Module:
    positional: list[Any] = []
    named: dict[str, Any] = {}
    for name, value in init.items():
        kind = parameters.parameters[name].kind if name in parameters.parameters else inspect.Parameter.KEYWORD_ONLY
        if kind is inspect.Parameter.VAR_POSITIONAL:
            positional.extend(value)
        elif kind is inspect.Parameter.VAR_KEYWORD:
            named.update(value)
        else:
            named[name] = value
    return cls(*positional, **named)


_KINDS: dict[str, Callable[[Node, CodeRoot | None], Module]] = {"predict": _predict, "python": _python}


def _bind(parts: Mapping[str, Module], path: str, value: Any) -> None:  # noqa: ANN401  # any JSON value
    place, _, slot = path.rpartition(".")
    part = parts.get(place)
    if not isinstance(part, Predict):
        raise DefinitionError(f"the program has no predictor at {place!r} for {path!r}; it has: {', '.join(parts)}")
    if slot == "demos":
        part.demos = [dict(demo) for demo in value]
    elif slot == "instructions":
        part.signature = part.signature.with_instructions(value)
    else:
        raise DefinitionError(f"a predictor has no slot {slot!r}; slots are: instructions, demos")


def reassigned(module: M, values: Assignment) -> M:
    """Return a copy of `module` with other values for some variables; see `Module.assign`."""
    import copy

    program_of(module).space.check(values)
    made = copy.deepcopy(module, {id(kept): kept for kept in _shared(module)})
    parts = dict(made.named_modules())
    for path, value in values.items():
        _bind(parts, path, value)
    return made


def _shared(module: Module) -> list[object]:
    """What a copy shares with its original: signatures, models and adapters are immutable or own resources."""
    predictors = [part for _, part in module.named_modules() if isinstance(part, Predict)]
    return [kept for part in predictors for kept in (part.signature, part.model, part.adapter) if kept is not None]


def module_of(given: "Module | Program | type[Module]", *, code: CodeRoot | None = None) -> Module:
    """Return the module behind a module, a module class that needs no arguments, or a program."""
    if isinstance(given, Module):
        return given
    if isinstance(given, Program):
        return build(given, code=code)
    return given()
