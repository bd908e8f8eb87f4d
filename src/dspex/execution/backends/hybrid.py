"""Programs whose nodes run on different backends, as their definitions say."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from dspex.errors import DefinitionError
from dspex.execution.backends.backend import Backend, BackendCapability, Handle
from dspex.execution.backends.backend_kind import BackendKind
from dspex.execution.backends.backend_module import BackendModule
from dspex.execution.backends.handle_cache import HandleCache
from dspex.execution.context import RunContext
from dspex.execution.modules import CodeRoot, Module, build
from dspex.execution.modules.instances import with_instances
from dspex.language.programs import ROOT, Node, Program
from dspex.language.records import Prediction


class HybridBackend:
    """Runs the tree of a program in this process, and nodes with another backend there.

    The trace shows where a node ran and why: a `backend` span below the span of the node. The
    caller starts and stops the backends.
    """

    name = "hybrid"
    capabilities: frozenset[BackendCapability] = frozenset({"code_programs"})

    def __init__(self, backends: Mapping[str, Backend], *, code: CodeRoot | None = None) -> None:
        """Take the other backends by name, and the code root of code programs."""
        self._backends = backends
        self._code = code
        self._modules: HandleCache[Module] = HandleCache()

    async def create_program(self, program: Program) -> Handle:
        """Build the tree with the nodes of other backends; see `Backend.create_program`."""
        handle = Handle(program.content_hash)
        if self._modules.touch(handle):
            return handle
        if program.root.backend != "native":
            return self._modules.put(handle, BackendModule(program, self._backend(program.root)))
        module = build(program, code=self._code)
        for node in program.root.walk():
            if node.backend != "native":
                _replace_module(
                    module,
                    node.id,
                    BackendModule(_node_program(program, node), self._backend(node)),
                )
        return self._modules.put(handle, module)

    def _backend(self, node: Node) -> Backend:
        if node.backend not in self._backends:
            names = ", ".join(["native", *self._backends])
            raise DefinitionError(
                f"node {node.id!r} names the backend {node.backend!r}; this process has: {names}"
            )
        return self._backends[node.backend]

    async def execute_program(
        self, handle: Handle, inputs: Mapping[str, Any], context: RunContext
    ) -> Prediction:
        """Run the tree; see `Backend.execute_program`."""
        module = self._modules.get(handle)
        frame = msgspec.structs.replace(context.frame, loop=asyncio.get_running_loop())
        return await module.acall(
            msgspec.structs.replace(context, frame=frame), **await with_instances(module, inputs)
        )

    async def delete_program(self, handle: Handle) -> None:
        """Remove one program here; other backends keep its nodes, which programs may share."""
        self._modules.delete(handle)

    async def list_programs(self) -> Sequence[Handle]:
        """Return the handles of all programs."""
        return self._modules.handles()


def _node_program(program: Program, node: Node) -> Program:
    """Return `node` as a separate program, with its part of the assignment."""
    if node.signature is None:
        raise DefinitionError(
            f"node {node.id!r} has no signature, so the backend {node.backend!r} cannot run it "
            "alone"
        )
    inside = {
        f"self.{path.removeprefix(f'{node.id}.')}": value
        for path, value in program.by_place().items()
        if path.startswith(f"{node.id}.")
    }
    return Program(
        name=node.id, signature=node.signature, root=replace(node, id=str(ROOT)), assignment=inside
    )


def _replace_module(root: Module, path: str, module: Module) -> None:
    """Replace the module at `path` (`answer`, `steps[0]`, `d['k']`), wherever it is a part."""
    target = dict(root.named_modules()).get(path)
    parents = [
        (parent, relative)
        for _, parent in root.named_modules()
        for relative, child in parent.children()
        if child is target
    ]
    if not parents:
        raise DefinitionError(f"the program has no module at {path!r} to run on another backend")
    for parent, relative in parents:  # several, if parts share it
        _set_child(parent, relative, module)


def _set_child(parent: Module, relative: str, module: Module) -> None:
    name, _, index = relative.partition("[")
    if not index:
        setattr(parent, name, module)
        return
    container = getattr(parent, name)
    if isinstance(container, dict):
        key = next(key for key in container if f"{key!r}]" == index)
        setattr(parent, name, {**container, key: module})
    else:
        items = list(container)
        items[int(index.rstrip("]"))] = module
        setattr(parent, name, type(container)(items))


KIND = BackendKind(
    name="hybrid",
    summary="runs each node of a program on the backend that the node names",
    open=lambda resources: HybridBackend(resources.others, code=resources.code),
    is_internal=True,
)
