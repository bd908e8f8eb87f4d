"""One tool: a name, a description, typed arguments, and what is done with them."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from dspex.clock import Clock, SystemClock
from dspex.errors import DefinitionError, DspexError, InvalidError, SignatureError, ToolError, shorten
from dspex.execution.clients import ToolSpec
from dspex.language.signatures import MISSING, Field, Signature, Type
from dspex.language.signatures.annotations import from_annotation
from dspex.language.signatures.codec import plain
from dspex.sync import in_thread

T = TypeVar("T")
Permit = Callable[[str, Mapping[str, Any]], "bool | Awaitable[bool]"]
_CLOCK = SystemClock()


class Runnable(Protocol):
    """What `Tool.from_module` takes: a module, or whatever else has a contract and can be called so."""

    def contract(self) -> Signature:
        """Return what goes in and what comes out."""
        ...

    async def acall(self, **inputs: Any) -> Mapping[str, Any]:  # noqa: ANN401
        """Run, and return the outputs."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Under which conditions a tool is called.

    `timeout` (seconds) ends one attempt; a synchronous function goes on in its thread, unheard. `retries` more attempts
    follow an exception of the tool. `permit` is asked before each call with the tool's name and arguments.
    """

    timeout: float | None = None
    retries: int = 0
    permit: Permit | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A typed action; immutable, and safe to call from many tasks at once. `module` is what runs, where it is one."""

    name: str
    description: str
    signature: Signature
    call: Callable[..., Any]
    policy: Policy = Policy()
    clock: Clock = _CLOCK
    module: Runnable | None = None

    @classmethod
    def from_function(
        cls, function: Callable[..., Any], *, name: str = "", description: str = "", policy: Policy | None = None
    ) -> "Tool":
        """Return the tool that calls `function`, async or not; its parameters are the arguments.

        Raises:
            SignatureError: a parameter has no type, or one that no field has.
        """
        if not callable(function):
            raise DefinitionError(f"{shorten(function)} is not a tool; give a function whose parameters have types")
        called = name or function.__name__
        said = description or inspect.getdoc(function) or called
        signature = _signature(called, function)
        return cls(name=called, description=said, signature=signature, call=function, policy=policy or Policy())

    @classmethod
    def from_module(cls, module: Runnable, *, name: str, description: str = "", policy: Policy | None = None) -> "Tool":
        """Return the tool that runs `module`: an agent as a tool of another. Usage and trace nest."""
        signature = module.contract()
        return cls(
            name=name,
            description=description or signature.instructions,
            signature=signature,
            call=_ModuleCall(module),
            policy=policy or Policy(),
            module=module,
        )

    @classmethod
    def of(cls, given: "Tool | Callable[..., Any]") -> "Tool":
        """Return the tool behind a tool or a typed function."""
        return given if isinstance(given, Tool) else cls.from_function(given)

    def spec(self) -> ToolSpec:
        """Return the tool as a model is told of it."""
        return ToolSpec(self.name, self.description, self.signature.to_json_schema("generic", purpose="inputs"))

    async def run(self, arguments: Mapping[str, Any]) -> Any:  # noqa: ANN401  # whatever the tool returns
        """Check the arguments, ask for permission, and call.

        Raises:
            ToolError: the arguments do not fit, it is not permitted, it took too long, or it failed each time.
        """
        try:
            values = self.signature.validate_inputs(arguments)
        except InvalidError as error:
            raise ToolError(f"{self.name}: {error.message}", errors=list(error.fields)) from error
        if self.policy.permit is not None and not await _awaited(self.policy.permit(self.name, values)):
            raise ToolError(f"{self.name}: this call is not permitted")
        attempt = 0
        while True:
            try:
                return await self._once(values)
            except ToolError:
                if attempt >= self.policy.retries:
                    raise
            attempt += 1
            await self.clock.sleep(0.1 * 2**attempt)

    async def _once(self, values: Mapping[str, Any]) -> Any:  # noqa: ANN401
        limit = None
        try:
            async with asyncio.timeout(self.policy.timeout) as limit:
                if _is_async(self.call):
                    return await self.call(**values)
                return await in_thread(self.call, **values)
        except TimeoutError as error:
            if limit is not None and limit.expired():
                raise ToolError(f"{self.name}: no answer within {self.policy.timeout:g} s") from error
            raise ToolError(f"{self.name} failed: TimeoutError: {error}") from error
        except DspexError as error:
            raise ToolError(f"{self.name} failed: {error.message}") from error
        except Exception as error:
            raise ToolError(f"{self.name} failed: {type(error).__name__}: {error}") from error


@dataclass(frozen=True, slots=True)
class _ModuleCall:
    """Runs a module and returns its outputs; a single one bare. A value, so that a copy runs the copied module."""

    module: Runnable

    async def __call__(self, **arguments: Any) -> Any:  # noqa: ANN401
        answer = await self.module.acall(**arguments)
        declared = self.module.contract().output_fields  # an agent that is a tool keeps its trajectory to itself
        outputs = {name: answer[name] for name in declared if name in answer}
        return next(iter(outputs.values())) if len(outputs) == 1 else outputs


def _is_async(call: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(call) or inspect.iscoroutinefunction(type(call).__call__)


async def _awaited(value: "T | Awaitable[T]") -> T:
    return await value if inspect.isawaitable(value) else value


def _signature(name: str, function: Callable[..., Any]) -> Signature:
    """Return the contract of a function: its parameters in; what comes out is any value."""
    result = Field(name="result_", alias="result", type=Type("any"), role="output")
    hints = inspect.get_annotations(function, eval_str=True)
    fields = [_field(name, parameter, hints) for parameter in inspect.signature(function).parameters.values()]
    return Signature.from_fields(name, [*fields, result], inspect.getdoc(function) or "")


def _field(tool: str, parameter: inspect.Parameter, hints: Mapping[str, Any]) -> Field:
    if parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY}:
        raise SignatureError(f"the tool {tool!r} has the parameter {parameter}; tools take named parameters only")
    if parameter.name not in hints:
        raise SignatureError(f"the parameter {parameter.name!r} of the tool {tool!r} has no type; annotate it")
    default = MISSING if parameter.default is parameter.empty else plain(parameter.default)
    return Field(name=parameter.name, type=from_annotation(hints[parameter.name]), role="input", default=default)
