"""Modules that users write as code, in stored programs."""

import inspect
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from dspex.errors import ConflictError, DefinitionError
from dspex.execution.modules.code import check_source
from dspex.execution.modules.function import FunctionModule
from dspex.execution.modules.module import Module
from dspex.execution.modules.module_kind import ModuleKind, NodeBuilder
from dspex.execution.modules.tree import walk
from dspex.language.programs import ModulePath, Node


def _build(node: Node, builder: NodeBuilder) -> Module:
    target = node.config.get("target", "")
    if builder.code is None:
        raise DefinitionError(
            f"{target!r} is code, and code is not loaded here: run it from the folder that holds it"
        )
    cls = builder.code.load(target)
    if isinstance(cls, FunctionModule):
        check_source(cls.function, node.config, source=cls.__source_hash__)
        return deepcopy(cls)
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
        if child.kind == KIND.name:
            code = part.function if isinstance(part, FunctionModule) else type(part)
            check_source(code, child.config, source=part.__source_hash__)


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


KIND = ModuleKind(name="python", summary="a Module class or function that you wrote", build=_build)
