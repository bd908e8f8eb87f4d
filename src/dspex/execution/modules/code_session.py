"""What modules share that run the code of a model in a sandbox."""

import dataclasses
import re
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec

from dspex.errors import DefinitionError
from dspex.execution.context import current, use_context
from dspex.execution.frame import payload
from dspex.execution.sandbox import (
    Sandbox,
    SandboxLimits,
    SandboxResult,
    SandboxSession,
    find_sandbox,
)
from dspex.execution.sandbox.sandbox import SandboxTool
from dspex.language.signatures import Signature
from dspex.language.signatures.codec import plain

SUBMIT: Final = "SUBMIT"
_FENCE: Final = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)(?:\n[ \t]*```|\Z)", re.DOTALL)
_OBSERVED: Final = 4000  # characters of an output that a model is shown


class CodeSession:
    """A sandbox session of one run; the code ends it by calling `SUBMIT` with the outputs."""

    def __init__(self, session: SandboxSession, name: str, submitted: dict[str, Any]) -> None:
        """Take the session, the sandbox's name, and where `SUBMIT` puts the outputs."""
        self._session = session
        self._name = name
        self.submitted = submitted

    async def bind(self, values: Mapping[str, Any]) -> None:
        """Bind JSON values to names of the code."""
        await self._session.run("None", inputs=values)

    async def run(self, text: str, inputs: Mapping[str, Any] | None = None) -> SandboxResult:
        """Run the code in a model's reply, in a span of its own.

        Raises:
            SandboxError: the session has ended.
        """
        context, code = current(), read_code(text)
        span = context.begin("tool", self._name)
        if context.records_payloads:
            span.inputs = payload({"code": code})
        try:
            with use_context(context.below(span)):
                result = await self._session.run(code, inputs=inputs)
        except BaseException as error:
            span.end(error=error)
            raise
        attributes: dict[str, object] = {}
        if result.fault is not None:
            attributes["fault"] = str(result.fault)
        visible = {"value": result.value, "stdout": result.stdout}
        span.end(
            attributes=attributes, outputs=payload(visible) if context.records_payloads else None
        )
        return result


@asynccontextmanager
async def code_session(
    sandbox: Sandbox | str | None,
    limits: SandboxLimits | None,
    tools: Mapping[str, SandboxTool] | None = None,
) -> AsyncIterator[CodeSession]:
    """Start a sandbox session whose code may call tools, and `SUBMIT(field=value, ...)`."""
    submitted: dict[str, Any] = {}

    async def submit(*args: Any, **outputs: Any) -> None:
        values = [value for value in args if isinstance(value, Mapping)]
        submitted.update({name: part for value in values for name, part in value.items()})
        submitted.update(outputs)

    backend = find_sandbox(sandbox)
    async with backend.start(tools={**(tools or {}), SUBMIT: submit}, limits=limits) as session:
        yield CodeSession(session, backend.name, submitted)


def read_code(text: str) -> str:
    """Return the code of a reply: that of its fences, if it has any."""
    blocks = _FENCE.findall(text)
    return "\n".join(blocks) if blocks else text.strip()


def observation(result: SandboxResult) -> str:
    """Return what a model is shown of a run."""
    parts = [result.stdout.rstrip()]
    if result.value is not None:
        parts.append(f"=> {payload(result.value)}")
    if result.fault is not None:
        parts.append(str(result.fault))
    text = "\n".join(part for part in parts if part) or "(no output)"
    if len(text) <= _OBSERVED:
        return text
    half = _OBSERVED // 2
    return f"{text[:half]}\n... ({len(text) - _OBSERVED} characters left out)\n{text[-half:]}"


def without(signature: Signature, names: Iterable[str]) -> Signature:
    """Return a signature without some of its fields."""
    for name in names:
        signature = signature.remove(name)
    return signature


def sandbox_config(
    sandbox: Sandbox | str | None, limits: SandboxLimits | None, path: str
) -> dict[str, Any]:
    """Return sandbox and limits as data; only what differs from the defaults.

    Raises:
        DefinitionError: the sandbox is an object, which cannot be stored.
    """
    config: dict[str, Any] = {}
    if sandbox is not None:
        if not isinstance(sandbox, str):
            raise DefinitionError(
                f"the sandbox of {path!r} is an object; set it by name to store the module"
            )
        config["sandbox"] = sandbox
    if limits is not None:
        config["limits"] = dataclasses.asdict(limits)
    return config


def limits_of(config: Mapping[str, Any] | SandboxLimits | None) -> SandboxLimits | None:
    """Return limits, also from their data.

    Raises:
        DefinitionError: a limit is unknown or invalid.
    """
    if config is None or isinstance(config, SandboxLimits):
        return config
    names = [field.name for field in dataclasses.fields(SandboxLimits)]
    for name in config:
        if name not in names:
            raise DefinitionError(f"there is no limit {name!r}; limits are: {', '.join(names)}")
    return SandboxLimits(**config)


def json_inputs(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return inputs as JSON data, for the names of the code."""
    data: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(plain(dict(values))))
    return data
