"""A tool: name, description, typed arguments, and the function that runs."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from dspex.arguments import checks_names
from dspex.clock import Clock, SystemClock
from dspex.error_text import shorten
from dspex.errors import (
    DefinitionError,
    DspexError,
    InputError,
    SignatureError,
    ToolError,
    WaitingForAnswerError,
)
from dspex.execution.clients import ToolSpec
from dspex.language.signatures import MISSING, Field, Signature, Type
from dspex.language.signatures.annotations import from_annotation
from dspex.language.signatures.codec import plain
from dspex.sync import in_thread

T = TypeVar("T")
Permit = Callable[[str, Mapping[str, Any]], "bool | Awaitable[bool]"]
Approve = Callable[["Tool", Mapping[str, Any]], Awaitable[None]]
"""Asks a person about one call of a tool; raises `ToolError` unless the person approves."""
_CLOCK = SystemClock()


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _unfit_policy(name: str, value: object, takes: str) -> DefinitionError:
    return DefinitionError(f"`{name}` of ToolPolicy takes {takes}, not {shorten(value)}")


class Runnable(Protocol):
    """What `Tool.from_module` takes: a module, or any object with the same two methods."""

    def contract(self) -> Signature:
        """Return the signature: input and output fields."""
        ...

    async def acall(self, **inputs: Any) -> Mapping[str, Any]:
        """Run and return the outputs."""
        ...


@checks_names
@dataclass(frozen=True, slots=True, kw_only=True)
class ToolPolicy:
    """The conditions under which a tool is called.

    `timeout` (seconds) ends one attempt; a synchronous function keeps running in its thread, but
    its result is ignored. `retries` is how many more attempts follow an exception of the tool.
    `permit` gets the tool's name and arguments before each call and returns whether the call may
    happen. With `approval` a person approves each call before it happens, or each for which that
    function returns True; nobody's approval within `approval_ttl` seconds is a rejection.
    """

    timeout: float | None = None
    retries: int = 0
    permit: Permit | None = None
    approval: "bool | Permit" = False
    approval_ttl: float | None = None

    def __post_init__(self) -> None:
        """Check the conditions.

        Raises:
            DefinitionError: one does not fit.
        """
        for name in ("timeout", "approval_ttl"):
            seconds = getattr(self, name)
            if seconds is not None and not (_is_number(seconds) and seconds > 0):
                raise _unfit_policy(name, seconds, "a number of seconds above 0")
        if not (_is_number(self.retries) and self.retries >= 0 and self.retries % 1 == 0):
            raise _unfit_policy("retries", self.retries, "a whole number from 0")
        condition = "a function of the tool's name and the arguments"
        if self.permit is not None and not callable(self.permit):
            raise _unfit_policy("permit", self.permit, condition)
        if not isinstance(self.approval, bool) and not callable(self.approval):
            raise _unfit_policy("approval", self.approval, f"True, False or {condition}")


@checks_names
@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A typed action; immutable, and safe to call from many tasks at once.

    `module` is the module that the tool runs, or None.
    """

    name: str
    description: str
    signature: Signature
    call: Callable[..., Any]
    policy: ToolPolicy = ToolPolicy()
    clock: Clock = _CLOCK
    module: Runnable | None = None

    @classmethod
    def from_function(
        cls,
        function: Callable[..., Any],
        *,
        name: str = "",
        description: str = "",
        policy: ToolPolicy | None = None,
    ) -> "Tool":
        """Return a tool that calls `function` (sync or async); its parameters are the arguments.

        Raises:
            SignatureError: a parameter has no type annotation, or an unsupported one.
        """
        if not callable(function):
            raise DefinitionError(
                f"{shorten(function)} is not a tool; give a function whose parameters have types"
            )
        tool_name = name or function.__name__
        text = description or inspect.getdoc(function) or tool_name
        signature = _signature(tool_name, function)
        return cls(
            name=tool_name,
            description=text,
            signature=signature,
            call=function,
            policy=policy or ToolPolicy(),
        )

    @classmethod
    def from_module(
        cls, module: Runnable, *, name: str, description: str = "", policy: ToolPolicy | None = None
    ) -> "Tool":
        """Return a tool that runs `module`, such as another agent; usage and trace nest."""
        signature = module.contract()
        return cls(
            name=name,
            description=description or signature.instructions,
            signature=signature,
            call=_ModuleCall(module),
            policy=policy or ToolPolicy(),
            module=module,
        )

    @classmethod
    def of(cls, tool: "Tool | Callable[..., Any]") -> "Tool":
        """Return `tool` itself, or the tool for a typed function."""
        return tool if isinstance(tool, Tool) else cls.from_function(tool)

    def spec(self) -> ToolSpec:
        """Return the specification that models receive."""
        return ToolSpec(
            self.name, self.description, self.signature.to_json_schema("generic", purpose="inputs")
        )

    async def run(self, arguments: Mapping[str, Any], *, approve: Approve | None = None) -> Any:
        """Validate the arguments, check permission and approval, and call.

        Raises:
            ToolError: the arguments are invalid, the call is not permitted or not approved, it
                timed out, or every attempt failed.
        """
        try:
            values = self.signature.validate_inputs(arguments)
        except InputError as error:
            raise ToolError(f"{self.name}: {error.message}", errors=list(error.fields)) from error
        if self.policy.permit is not None and not await _await_if_needed(
            self.policy.permit(self.name, values)
        ):
            raise ToolError(f"{self.name}: this call is not permitted")
        if await self._needs_approval(values):
            if approve is None:
                raise ToolError(
                    f"{self.name}: a person has to approve this call, and only modules can ask: "
                    "give the tool to an agent, or pass `approve`"
                )
            await approve(self, values)
        attempt = 0
        while True:
            try:
                return await self._attempt(values)
            except ToolError:
                if attempt >= self.policy.retries:
                    raise
            attempt += 1
            await self.clock.sleep(0.1 * 2**attempt)

    async def _needs_approval(self, values: Mapping[str, Any]) -> bool:
        approval = self.policy.approval
        if isinstance(approval, bool):
            return approval
        return bool(await _await_if_needed(approval(self.name, values)))

    async def _attempt(self, values: Mapping[str, Any]) -> Any:
        limit = None
        try:
            async with asyncio.timeout(self.policy.timeout) as limit:
                if _is_async(self.call):
                    return await self.call(**values)
                return await in_thread(self.call, **values)
        except TimeoutError as error:
            if limit is not None and limit.expired():
                raise ToolError(
                    f"{self.name}: no answer within {self.policy.timeout:g} s"
                ) from error
            raise ToolError(f"{self.name} failed: TimeoutError: {error}") from error
        except WaitingForAnswerError:
            raise
        except DspexError as error:
            raise ToolError(f"{self.name} failed: {error.message}") from error
        except Exception as error:
            raise ToolError(f"{self.name} failed: {type(error).__name__}: {error}") from error


@dataclass(frozen=True, slots=True)
class _ModuleCall:
    """Runs a module and returns its outputs, a single output unwrapped.

    A dataclass, so that copying a tool also copies the module that it runs.
    """

    module: Runnable

    async def __call__(self, **arguments: Any) -> Any:
        prediction = await self.module.acall(**arguments)
        declared = self.module.contract().output_fields  # without the trajectory of an agent
        outputs = {name: prediction[name] for name in declared if name in prediction}
        return next(iter(outputs.values())) if len(outputs) == 1 else outputs


def _is_async(call: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(call) or inspect.iscoroutinefunction(type(call).__call__)


async def _await_if_needed(value: "T | Awaitable[T]") -> T:
    return await value if inspect.isawaitable(value) else value


def _signature(name: str, function: Callable[..., Any]) -> Signature:
    """Return the signature of a function: its parameters as inputs, any value as output."""
    result = Field(name="result_", alias="result", type=Type("any"), role="output")
    hints = inspect.get_annotations(function, eval_str=True)
    fields = [
        _field(name, parameter, hints)
        for parameter in inspect.signature(function).parameters.values()
    ]
    return Signature.from_fields(name, [*fields, result], inspect.getdoc(function) or "")


def _field(tool: str, parameter: inspect.Parameter, hints: Mapping[str, Any]) -> Field:
    if parameter.kind in {
        parameter.VAR_POSITIONAL,
        parameter.VAR_KEYWORD,
        parameter.POSITIONAL_ONLY,
    }:
        raise SignatureError(
            f"the tool {tool!r} has the parameter {parameter}; tools take named parameters only"
        )
    if parameter.name not in hints:
        raise SignatureError(
            f"the parameter {parameter.name!r} of the tool {tool!r} has no type; annotate it"
        )
    default = MISSING if parameter.default is parameter.empty else plain(parameter.default)
    return Field(
        name=parameter.name,
        type=from_annotation(hints[parameter.name]),
        role="input",
        default=default,
    )
