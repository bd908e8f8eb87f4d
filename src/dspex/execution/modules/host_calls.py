"""The calls that code of a model makes to its host: tools, and `SUBMIT`."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, Final, NoReturn

from dspex.error_text import suggest
from dspex.errors import ToolError, WaitingForAnswerError
from dspex.execution.sandbox.sandbox import SandboxTool

SUBMIT: Final = "SUBMIT"
_ENDED: Final = f"{SUBMIT} was called, which ends the code"


class HostCalls:
    """The calls that code in a sandbox makes to its host.

    `submitted` has the outputs that the code handed over; after that, each further call raises, so
    that the code ends. `waiting` is the error of a tool that asked a person whom nobody can reach.
    The code cannot catch it: no later tool is called, and the run ends with it.
    """

    def __init__(self, outputs: Sequence[str]) -> None:
        """Take the names of the outputs, in their order."""
        self._outputs = outputs
        self.submitted: dict[str, Any] | None = None
        self.waiting: WaitingForAnswerError | None = None

    async def submit(self, *args: Any, **outputs: Any) -> NoReturn:
        """Take the outputs, by name, in their order, or as one object; this ends the code.

        Raises:
            ToolError: always: the outputs are taken, or the message says what does not fit.
        """
        self._begin_call()
        self.submitted = self._by_name(args, outputs)
        raise ToolError(_ENDED)

    def _by_name(self, args: Sequence[Any], outputs: Mapping[str, Any]) -> dict[str, Any]:
        names = self._outputs
        if len(args) == 1 and isinstance(args[0], Mapping) and not outputs:
            value = args[0]
            if value.keys() & set(names) or len(names) > 1:
                args, outputs = (), value
        if len(args) > len(names):
            raise ToolError(f"{SUBMIT} takes {', '.join(names)}, not {len(args)} values")
        for name in outputs:
            if name not in names:
                raise ToolError(
                    f"{SUBMIT} takes {', '.join(names)}, not {name}.{suggest(name, names)}"
                )
        values = dict(zip(names, args, strict=False))
        for name in values.keys() & outputs.keys():
            raise ToolError(f"{SUBMIT} got {name} twice")
        return {**values, **outputs}

    def check(self) -> None:
        """Raise if the run cannot go on.

        Raises:
            WaitingForAnswerError: a tool waits for a person.
        """
        if self.waiting is not None:
            raise self.waiting

    def _begin_call(self) -> None:
        self.check()
        if self.submitted is not None:
            raise ToolError(_ENDED)

    def guarded(self, tool: SandboxTool) -> SandboxTool:
        """Return the tool, which is not called once the code must not go on."""

        @functools.wraps(tool)
        async def call(*args: Any, **kwargs: Any) -> Any:
            self._begin_call()
            try:
                return await tool(*args, **kwargs)
            except WaitingForAnswerError as error:
                self.waiting = error
                raise

        return call
