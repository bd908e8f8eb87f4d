"""The protocol of sandboxes."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import msgspec

from dspex.arguments import checks_names
from dspex.errors import DefinitionError

FaultKind = Literal["syntax", "exception", "time", "memory", "output", "calls", "crash"]
SandboxTool = Callable[..., Awaitable[Any]]
"""A function of the host that the code may call as if it were synchronous."""


@checks_names
@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxLimits:
    """What the code of one session may use.

    - `seconds` of one run, without the time that the host spends in tools.
    - `memory_mib` of the whole session.
    - `output_kib` that one run prints, and of its value as JSON.
    - `files_kib` that one run writes.
    - `calls` of tools in one run.
    """

    seconds: float = 10.0
    memory_mib: int = 256
    output_kib: int = 1024
    files_kib: int = 1024
    calls: int = 1000

    def __post_init__(self) -> None:
        """Check the limits.

        Raises:
            DefinitionError: a limit is not positive; the message has its name.
        """
        for name in self.__slots__:
            value = getattr(self, name)
            if not isinstance(value, int | float) or isinstance(value, bool) or not value > 0:
                raise DefinitionError(f"{name} of SandboxLimits must be above 0, not {value!r}")


class SandboxFault(msgspec.Struct, frozen=True, kw_only=True):
    """Why a run ended early.

    `kind` is "syntax" or "exception" for faults of the code; then `type` and `message` are those of
    the Python exception and `line` its line, if known. The others are the limit that was exceeded,
    or "crash".
    """

    kind: FaultKind
    type: str
    message: str
    line: int | None = None

    def __str__(self) -> str:
        """Return the fault as Python would show it."""
        place = "" if self.line is None else f" (line {self.line})"
        return f"{self.type}: {self.message}{place}"


class SandboxResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a run did.

    `value` is that of the last line, if it is an expression; otherwise None. It consists of JSON
    values. `stdout` is what the code printed, `files` what it wrote, by name. `fault` is None if it
    ran to its end.
    """

    value: Any = None
    stdout: str = ""
    files: Mapping[str, bytes] = {}
    fault: SandboxFault | None = None


class SandboxSession(Protocol):
    """One interpreter. Names that a run defines are there in the next. One run at a time."""

    async def run(self, code: str, *, inputs: Mapping[str, Any] | None = None) -> SandboxResult:
        """Run code.

        Args:
            code: Python source.
            inputs: JSON values that are bound to names before.

        Raises:
            SandboxError: the session has ended, because a limit was exceeded or it crashed; or an
                input is not a JSON value.
        """
        ...


class Sandbox(Protocol):
    """Starts sessions; safe to share between tasks.

    `is_safe` says whether the sandbox is a security boundary against hostile code.
    """

    name: str
    is_safe: bool

    def start(
        self,
        *,
        tools: Mapping[str, SandboxTool] | None = None,
        files: Mapping[str, bytes] | None = None,
        limits: SandboxLimits | None = None,
    ) -> AbstractAsyncContextManager[SandboxSession]:
        """Start a session; leaving the block ends it and whatever it started.

        Args:
            tools: functions of the host by the names that the code calls.
            files: files in the working folder of the code, by name.
            limits: what the code may use.

        Raises:
            SandboxError: the sandbox cannot be started.
            ConfigurationError: a package or program is missing; the message says how to install it.
        """
        ...

    async def aclose(self) -> None:
        """Free what the sandbox holds on the running loop; it may be used again afterwards."""
        ...
