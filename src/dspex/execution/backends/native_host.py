"""The host of native programs in a worker: builds them from their code root and asks the parent's model.

Loaded by path in a worker whose interpreter has dspex; nothing in the parent imports it.
"""

import asyncio
from pathlib import Path
from typing import Any

import msgspec

from dspex.clock import SystemClock
from dspex.execution.backends.backend import Handle
from dspex.execution.backends.native import NativeBackend
from dspex.execution.clients import Capability, Emit, Request, Response
from dspex.execution.context import RunContext, adapter_named
from dspex.execution.modules import CodeRoot
from dspex.language.programs import Program
from dspex.language.signatures.codec import plain


class ParentModel:
    """The parent's model, as a program in a worker sees it. It lives for one call."""

    def __init__(self, call: Any, about: dict[str, Any], *, own: str | None = None) -> None:  # noqa: ANN401
        """Take the call that the program runs for, what the model is, and its model string if a module has its own."""
        self._own = own
        self.name: str = about["name"]
        self.capabilities: frozenset[Capability] = frozenset(about["capabilities"])
        self._call = call

    async def complete(self, request: Request) -> Response:
        """Ask the parent."""
        asked = {"request": msgspec.to_builtins(request), "model": self._own}
        answer = await asyncio.to_thread(self._call.callback, "complete", asked)
        return msgspec.convert(answer, Response)

    async def stream(self, request: Request, emit: Emit) -> Response:
        """Ask the parent, whose answer comes in one piece."""
        response = await self.complete(request)
        await emit(response.text)
        return response

    async def aclose(self) -> None:
        """Do nothing: the parent owns the model."""


class NativeHost:
    """A native backend behind the commands of a worker."""

    def __init__(self, config: dict[str, Any]) -> None:
        """Take the code root, where there is one."""
        folder = config.get("code")
        code = CodeRoot(Path(folder["folder"]), folder["name"]) if folder else None
        self._backend = NativeBackend(code=code)
        self.commands = {
            "create_program": self._create,
            "execute_program": self._execute,
            "delete_program": self._delete,
        }

    def describe(self) -> dict[str, Any]:
        """What the handshake adds."""
        return {"host": "native"}

    def _create(self, call: Any, args: dict[str, Any]) -> str:  # noqa: ANN401
        return asyncio.run(self._backend.create_program(Program.from_dict(args["program"])))

    def _execute(self, call: Any, args: dict[str, Any]) -> dict[str, Any]:  # noqa: ANN401
        context = RunContext(
            model=ParentModel(call, args["model"]),
            adapter=adapter_named(args.get("adapter")),
            models=lambda own: ParentModel(call, call.callback("model", {"name": own}), own=own),
            seed=args.get("seed"),
            clock=SystemClock(),
        )
        prediction = asyncio.run(self._backend.execute_program(Handle(args["handle"]), args["inputs"], context))
        return {"outputs": {name: plain(value) for name, value in prediction.to_dict().items()}}

    def _delete(self, call: Any, args: dict[str, Any]) -> None:  # noqa: ANN401
        if args["handle"] in asyncio.run(self._backend.list_programs()):
            asyncio.run(self._backend.delete_program(Handle(args["handle"])))


def create(config: dict[str, Any]) -> NativeHost:
    """Return the host."""
    return NativeHost(config)
