"""Programs whose nodes run in different places: each where its definition says."""

import asyncio
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

from dspex.errors import DefinitionError
from dspex.execution.backends.backend import Backend, BackendCapability, Handle
from dspex.execution.backends.held import Held
from dspex.execution.context import RunContext
from dspex.execution.modules import CodeRoot, Module, build
from dspex.execution.modules.instances import with_instances
from dspex.language.programs import Node, Program
from dspex.language.records import Prediction
from dspex.language.signatures import Signature
from dspex.sync import on_loop

_owner: "ContextVar[asyncio.AbstractEventLoop | None]" = ContextVar("dspex_owner", default=None)


class Elsewhere(Module):
    """A node of a program that another backend runs; to the module around it, it is a module like any other.

    Wherever it is called from (a `forward` may run a loop of its own), the backend is asked on the loop that owns it.
    """

    def __init__(self, program: Program, backend: Backend) -> None:
        """Take the node as a program of its own, and where it runs."""
        self._program = program
        self._backend = backend

    def contract(self) -> Signature:
        """Return the node's signature."""
        return self._program.signature

    async def _run(
        self, context: RunContext, inputs: Mapping[str, Any]
    ) -> tuple[Mapping[str, object], dict[str, object]]:
        prediction = await on_loop(_owner.get() or asyncio.get_running_loop(), self._asked(context, inputs))
        fallback = prediction.fallback
        return prediction.to_dict(), {} if fallback is None else {"fallback": fallback.reason}

    async def _asked(self, context: RunContext, inputs: Mapping[str, Any]) -> Prediction:
        handle = await self._backend.create_program(self._program)
        return await self._backend.execute_program(handle, inputs, context)


class HybridBackend:
    """Runs a program's tree in this process and hands each node that names another backend to that one.

    The trace shows where a node ran and why: a `backend` span below the node's own. The backends are the caller's to
    start and to end.
    """

    name = "hybrid"
    capabilities: frozenset[BackendCapability] = frozenset({"code_programs"})

    def __init__(self, backends: Mapping[str, Backend], *, code: CodeRoot | None = None) -> None:
        """Take the other backends by the names that nodes say, and where code programs are imported from."""
        self._backends = backends
        self._code = code
        self._modules: Held[Module] = Held()

    async def create_program(self, program: Program) -> Handle:
        """Build the tree, with other backends' nodes in place; see `Backend.create_program`."""
        handle = Handle(program.content_hash)
        if self._modules.touch(handle):
            return handle
        if program.root.backend != "native":
            return self._modules.put(handle, Elsewhere(program, self._backend(program.root)))
        module = build(program, code=self._code)
        for node in program.root.walk():
            if node.backend != "native":
                _put(module, node.id, Elsewhere(_part(program, node), self._backend(node)))
        return self._modules.put(handle, module)

    def _backend(self, node: Node) -> Backend:
        if node.backend not in self._backends:
            known = ", ".join(["native", *self._backends])
            raise DefinitionError(f"node {node.id!r} names the backend {node.backend!r}; this process has: {known}")
        return self._backends[node.backend]

    async def execute_program(self, handle: Handle, inputs: Mapping[str, Any], context: RunContext) -> Prediction:
        """Run the tree; see `Backend.execute_program`."""
        mark = _owner.set(asyncio.get_running_loop())
        try:
            module = self._modules.get(handle)
            return await module.acall(context, **await with_instances(module, inputs))
        finally:
            _owner.reset(mark)

    async def delete_program(self, handle: Handle) -> None:
        """Forget one program here; the other backends keep their parts, which are shared by content."""
        self._modules.delete(handle)

    async def list_programs(self) -> Sequence[Handle]:
        """Return the handles of all programs."""
        return self._modules.handles()


def _part(program: Program, node: Node) -> Program:
    """Return `node` as a program of its own, with what the assignment says about it."""
    if node.signature is None:
        raise DefinitionError(f"node {node.id!r} has no signature, so the backend {node.backend!r} cannot run it alone")
    inside = {
        f"self.{path.removeprefix(f'{node.id}.')}": value
        for path, value in program.by_place().items()
        if path.startswith(f"{node.id}.")
    }
    return Program(name=node.id, signature=node.signature, root=replace(node, id="self"), assignment=inside)


def _put(root: Module, path: str, module: Module) -> None:
    """Replace the module at `path` (`answer`, `steps[0]`, `d['k']`) by another."""
    wanted = dict(root.named_modules()).get(path)
    for _, parent in root.named_modules():
        for relative, child in parent.children():
            if child is wanted:
                _assign(parent, relative, module)
                return
    raise DefinitionError(f"the program has no module at {path!r} to run elsewhere")


def _assign(parent: Module, relative: str, module: Module) -> None:
    name, _, index = relative.partition("[")
    if not index:
        setattr(parent, name, module)
        return
    held = getattr(parent, name)
    if isinstance(held, dict):
        key = next(key for key in held if f"{key!r}]" == index)
        setattr(parent, name, {**held, key: module})
    else:
        items = list(held)
        items[int(index.rstrip("]"))] = module
        setattr(parent, name, type(held)(items))
