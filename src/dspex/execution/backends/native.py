"""The default backend: programs run as modules in this process."""

from collections.abc import Mapping, Sequence
from typing import Any

from dspex.execution.backends.backend import BackendCapability, Handle
from dspex.execution.backends.backend_kind import BackendKind
from dspex.execution.backends.handle_cache import HandleCache
from dspex.execution.context import RunContext
from dspex.execution.modules import CodeRoot, Module, build
from dspex.execution.modules.instances import with_instances
from dspex.language.programs import Program
from dspex.language.records import Prediction


class NativeBackend:
    """Builds the module tree of a program once and runs it on the caller's event loop."""

    name = "native"

    def __init__(self, *, code: CodeRoot | None = None) -> None:
        """Take the code root of code programs; without it, only data programs run."""
        names: set[BackendCapability] = {"code_programs"} if code is not None else set()
        self.capabilities: frozenset[BackendCapability] = frozenset(names)
        self._code = code
        self._modules: HandleCache[Module] = HandleCache()

    async def create_program(self, program: Program) -> Handle:
        """Build the program's modules; see `Backend.create_program`."""
        handle = Handle(program.content_hash)
        return (
            handle
            if self._modules.touch(handle)
            else self._modules.put(handle, build(program, code=self._code))
        )

    async def execute_program(
        self, handle: Handle, inputs: Mapping[str, Any], context: RunContext
    ) -> Prediction:
        """Call the root module; see `Backend.execute_program`."""
        module = self._modules.get(handle)
        return await module.acall(context, **await with_instances(module, inputs))

    async def delete_program(self, handle: Handle) -> None:
        """Remove the modules of one program."""
        self._modules.delete(handle)

    async def list_programs(self) -> Sequence[Handle]:
        """Return the handles of all programs."""
        return self._modules.handles()


KIND = BackendKind(
    name="native",
    summary="runs programs in this process",
    open=lambda resources: NativeBackend(code=resources.code),
)
