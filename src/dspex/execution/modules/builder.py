"""Build modules from stored programs."""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from dspex.error_text import shorten
from dspex.errors import ConflictError, DefinitionError
from dspex.execution.modules.chain_of_thought import ChainOfThought
from dspex.execution.modules.code import CodeRoot, check_source, with_code
from dspex.execution.modules.files import read_state
from dspex.execution.modules.function import FunctionModule
from dspex.execution.modules.judged_module import JudgedModule
from dspex.execution.modules.module import Module
from dspex.execution.modules.predict import Predict
from dspex.execution.modules.react import ReAct
from dspex.execution.modules.switch import Switch
from dspex.execution.modules.tool_data import tool_of
from dspex.execution.modules.tree import walk
from dspex.execution.modules.wrappers import Parallel, Retry
from dspex.language.programs import ModulePath, Node, Program
from dspex.language.signatures import Signature

M = TypeVar("M", bound=Module)


def build(program: Program, *, code: CodeRoot | None = None) -> Module:
    """Return the runnable module tree of `program`, with its assignment applied.

    Args:
        program: the stored program.
        code: the folder to import user-written modules from; required if the program has any.

    Raises:
        DefinitionError: a kind is unknown, or the program needs code and `code` is missing.
        ConflictError: the code has changed since the program was stored.
    """
    if code is not None:
        code.update(_source_hashes(program.root))
    module = _build_node(program.root, code)
    declared = {name: value for name, value in program.assignment.items() if name in program.space}
    for path, value in program.space.bound(declared, defaults_of=()):
        module.bind_path(path, value)
    for path in program.assignment.keys() - declared.keys():
        module.bind_path(path, program.assignment[path])
    module.adopt(program.space, declared)
    return module


def _build_node(node: Node, code: CodeRoot | None) -> Module:
    build_node = _KINDS.get(node.kind)
    if build_node is None:
        raise DefinitionError(
            f"unknown kind of module {node.kind!r}; kinds are: {', '.join(_KINDS)}"
        )
    module = build_node(node, code)
    return module if node.backend == "native" else module.on(node.backend)


def _predict(node: Node, code: CodeRoot | None) -> Module:
    config = dict(node.config)
    return Predict(with_code(_signature(node), code, config.pop("checks", None)), **config)


def _signature(node: Node) -> Signature:
    if node.signature is None:
        raise DefinitionError(f"the node {node.id!r} has no signature")
    return node.signature


def _python(node: Node, code: CodeRoot | None) -> Module:
    target = node.config.get("target", "")
    if code is None:
        raise DefinitionError(
            f"{target!r} is code, and code is not loaded here: run it from the folder that holds it"
        )
    cls = code.load(target)
    if isinstance(cls, FunctionModule):
        check_source(cls.function, node.config, source=cls.__source_hash__)
        return cls
    if not (isinstance(cls, type) and issubclass(cls, Module)):
        raise DefinitionError(f"{target!r} is not a Module class")
    check_source(cls, node.config, source=cls.__source_hash__)
    module = _construct(cls, inspect.signature(cls.__init__), node.config.get("init", {}))
    _check_parts(node, module)
    return module


def _check_parts(node: Node, module: Module) -> None:
    """Raise unless the module built from code has the parts of `node`, with the same source."""
    parts = {str(path): part for path, part in walk(module, ModulePath.of(node.id))}
    stored = {child.id: child for child in node.walk() if child is not node}
    if missing := stored.keys() - parts.keys():
        raise ConflictError(
            f"{node.config['target']!r} no longer has the parts {', '.join(sorted(missing))}"
        )
    for path, child in stored.items():
        part = parts[path]
        if child.kind == "python":
            code = part.function if isinstance(part, FunctionModule) else type(part)
            check_source(code, child.config, source=part.__source_hash__)


def _source_hashes(node: Node) -> dict[str, str]:
    """Return the source hashes of all code in a stored program, by module name."""
    hashes: dict[str, str] = {}
    for child in node.walk():
        tools = child.config.get("tools", ()) if child.kind == "react" else ()
        for config in (
            child.config,
            *tools,
            *(tool["permit"] for tool in tools if "permit" in tool),
        ):
            if "target" in config:
                hashes[config["target"].partition(":")[0]] = config.get("source_hash", "")
            for target, source in config.get("checks", {}).items():
                hashes[target.partition(":")[0]] = source
    return hashes


def _construct(cls: type[Module], parameters: inspect.Signature, init: Mapping[str, Any]) -> Module:
    positional: list[Any] = []
    keywords: dict[str, Any] = {}
    for name, value in init.items():
        kind = (
            parameters.parameters[name].kind
            if name in parameters.parameters
            else inspect.Parameter.KEYWORD_ONLY
        )
        if kind is inspect.Parameter.VAR_POSITIONAL:
            positional.extend(value)
        elif kind is inspect.Parameter.VAR_KEYWORD:
            keywords.update(value)
        else:
            keywords[name] = value
    return cls(*positional, **keywords)


def _switch(node: Node, code: CodeRoot | None) -> Module:
    children = node.children.get("alternatives")
    if not isinstance(children, Mapping):
        raise DefinitionError(f"the switch {node.id!r} has no alternatives")
    alternatives = {label: _build_node(child, code) for label, child in children.items()}
    return Switch(alternatives, chosen=node.config.get("chosen"))


def _chain_of_thought(node: Node, code: CodeRoot | None) -> Module:
    module = ChainOfThought(with_code(_signature(node), code), **node.config)
    module.predict = _child(node, "predict", code=code, kind=Predict)
    return module


def _react(node: Node, code: CodeRoot | None) -> Module:
    config, children = dict(node.config), node.children.get("tools", {})
    modules = (
        {name: _build_node(child, code) for name, child in children.items()}
        if isinstance(children, Mapping)
        else {}
    )
    tools = [tool_of(tool, modules, code) for tool in config.pop("tools", ())]
    module = ReAct(with_code(_signature(node), code, config.pop("checks", None)), tools, **config)
    module.react = _child(node, "react", code=code, kind=Predict)
    module.extract = _child(node, "extract", code=code, kind=ChainOfThought)
    return module


def _parallel(node: Node, code: CodeRoot | None) -> Module:
    return Parallel(_child(node, "module", code=code, kind=Module), **node.config)


def _retry(node: Node, code: CodeRoot | None) -> Module:
    return Retry(_child(node, "module", code=code, kind=Module), **node.config)


def _judge(node: Node, code: CodeRoot | None) -> Module:
    return JudgedModule(_child(node, "program", code=code, kind=Module), **node.config)


def _child(node: Node, name: str, *, code: CodeRoot | None, kind: type[M]) -> M:
    child = node.children.get(name)
    module = _build_node(child, code) if isinstance(child, Node) else None
    if not isinstance(module, kind):
        raise DefinitionError(
            f"the node {node.id!r} of kind {node.kind!r} has no {name!r} that is a {kind.__name__}"
        )
    return module


_KINDS: dict[str, Callable[[Node, CodeRoot | None], Module]] = {
    "predict": _predict,
    "python": _python,
    "switch": _switch,
    "chain_of_thought": _chain_of_thought,
    "react": _react,
    "parallel": _parallel,
    "retry": _retry,
    "judge": _judge,
}


def load(path: str | Path, *, code: CodeRoot | None = None) -> Module:
    """Return the module in a file of `Module.save`, or of a program (`optimize --out`).

    Raises:
        DefinitionError: the file has only the state of a module whose class cannot be imported;
            create the module and call its `load`.
    """
    module = build(load_program(path), code=code)
    module.load(path)
    return module


def load_program(path: str | Path) -> Program:
    """Return the program in a file without loading its code; see `load`.

    Raises:
        DefinitionError: the file does not contain a program.
    """
    stored = read_state(Path(path))["program"]
    if stored is None:
        raise DefinitionError(
            f"{str(path)!r} holds the state of a module but not its class: create the module, "
            "then call its load(...)"
        )
    return Program.from_dict(stored)


def module_of(target: "Module | Program | type[Module]", *, code: CodeRoot | None = None) -> Module:
    """Return the module of a module, a module class without required arguments, or a program.

    Raises:
        DefinitionError: `target` is none of these.
    """
    if isinstance(target, Module):
        return target
    if isinstance(target, Program):
        return build(target, code=code)
    if not (isinstance(target, type) and issubclass(target, Module)):
        raise DefinitionError(
            f"{shorten(target)} is not a program; pass a Module or a Program, such as Predict('a "
            "-> b')"
        )
    return target()
