"""From programs to modules: the runnable tree that data describes."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from dspex.errors import ConflictError, DefinitionError
from dspex.execution.modules.code import CodeRoot, check_source
from dspex.execution.modules.function import FunctionModule
from dspex.execution.modules.module import Module
from dspex.execution.modules.predict import Predict
from dspex.language.programs import Node, Program


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
    for name, value in program.assignment.items():
        variable = program.space.get(name)
        for path in variable.paths if variable is not None else (name,):
            module.bind_path(path, value)
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
        check_source(cls.function, node.config)
        return cls
    if not (isinstance(cls, type) and issubclass(cls, Module)):
        raise DefinitionError(f"{target!r} is no Module class")
    check_source(cls, node.config)
    args = inspect.signature(cls.__init__)
    made = _called(cls, args, node.config.get("init", {}))
    stored = {child.id for child in node.walk()}
    found = {path if node.id == "self" or path == "self" else f"{node.id}.{path}" for path, _ in made.named_modules()}
    if missing := stored - found - {node.id}:
        raise ConflictError(f"{target!r} has no longer the parts {', '.join(sorted(missing))}")
    return made


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


def module_of(given: "Module | Program | type[Module]", *, code: CodeRoot | None = None) -> Module:
    """Return the module behind a module, a module class that needs no arguments, or a program."""
    if isinstance(given, Module):
        return given
    if isinstance(given, Program):
        return build(given, code=code)
    return given()
