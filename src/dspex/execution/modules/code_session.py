"""What modules share that run the code of a model in a sandbox."""

import dataclasses
import keyword
import re
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec

from dspex.error_text import shorten
from dspex.errors import DefinitionError
from dspex.execution.context import current, use_context
from dspex.execution.frame import payload
from dspex.execution.modules.host_calls import SUBMIT, HostCalls
from dspex.execution.sandbox import (
    Sandbox,
    SandboxLimits,
    SandboxResult,
    SandboxSession,
    find_sandbox,
)
from dspex.execution.sandbox.registry import SANDBOXES
from dspex.execution.sandbox.sandbox import SandboxTool
from dspex.language.programs import Node
from dspex.language.signatures import Signature
from dspex.language.signatures.codec import plain

_FENCE: Final = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)(?:\n[ \t]*```|\Z)", re.DOTALL)
_OBSERVED: Final = 4000  # characters of an output that a model is shown


class CodeSession:
    """A sandbox session of one run; the code ends a turn by calling `SUBMIT` with the outputs."""

    def __init__(self, session: SandboxSession, name: str, calls: HostCalls) -> None:
        """Take the session, the sandbox's name, and the calls that its code makes."""
        self._session = session
        self._name = name
        self._calls = calls

    @property
    def submitted(self) -> dict[str, Any] | None:
        """The outputs that the last code submitted; None if it did not."""
        return self._calls.submitted

    async def bind(self, values: Mapping[str, Any]) -> None:
        """Bind JSON values to names of the code."""
        await self._session.run("None", inputs=values)

    async def run(self, text: str, inputs: Mapping[str, Any] | None = None) -> SandboxResult:
        """Run the code in a model's reply, in a span of its own.

        Raises:
            SandboxError: the session has ended.
            WaitingForAnswerError: a tool asked a person, and nobody can answer here.
        """
        context, code = current(), read_code(text)
        span = context.begin("tool", self._name)
        if context.records_payloads:
            span.inputs = payload({"code": code})
        self._calls.submitted = None
        try:
            with use_context(context.below(span)):
                result = await self._session.run(code, inputs=inputs)
            self._calls.check()
        except BaseException as error:
            span.end(error=error)
            raise
        if self.submitted is not None and result.fault and result.fault.kind == "exception":
            result = msgspec.structs.replace(result, fault=None)  # how `SUBMIT` ends the code
        attributes: dict[str, object] = {}
        if result.fault is not None:
            attributes["fault"] = str(result.fault)
        visible = {"value": result.value, "stdout": result.stdout}
        span.end(
            attributes=attributes, outputs=payload(visible) if context.records_payloads else None
        )
        return result

    def observation(self, result: SandboxResult) -> str:
        """Return what a model is shown of a run, with the outputs that it submitted."""
        text = observation(result)
        return text if self.submitted is None else f"{text}\nsubmitted: {self.submitted}"


@asynccontextmanager
async def code_session(
    sandbox: Sandbox | str | None,
    limits: SandboxLimits | None,
    *,
    outputs: Iterable[str],
    tools: Mapping[str, SandboxTool] | None = None,
) -> AsyncIterator[CodeSession]:
    """Start a sandbox session whose code may call tools, and `SUBMIT` the outputs."""
    calls = HostCalls(list(outputs))
    bound = {name: calls.guarded(tool) for name, tool in (tools or {}).items()}
    backend = find_sandbox(sandbox)
    async with backend.start(tools={**bound, SUBMIT: calls.submit}, limits=limits) as session:
        yield CodeSession(session, backend.name, calls)


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


def sandbox_problem(node: Node) -> str:
    """Return why dspy cannot run the code of a node, or an empty text if it can."""
    names = [name for name in ("sandbox", "limits") if node.config.get(name) is not None]
    return f"dspy runs code in its own interpreter, without `{names[0]}`" if names else ""


def check_names(signature: Signature, tools: Iterable[str] = ()) -> None:
    """Raise unless the code can use all inputs and tools by their names.

    Raises:
        DefinitionError: a tool is named by no Python name or as `SUBMIT`, or an input as a function
            that the code calls.
    """
    functions = [SUBMIT]
    for name in tools:
        if not name.isidentifier() or keyword.iskeyword(name):
            raise DefinitionError(
                f"the tool {name!r} cannot be called by code: use letters, digits and _ in its name"
            )
        if name == SUBMIT:
            raise DefinitionError(
                f"the tool {name!r} has the name of the function that ends the code; rename it"
            )
        functions.append(name)
    for name in signature.input_fields:
        if name in functions:
            raise DefinitionError(
                f"the input {name!r} has the name of a function that the code calls; rename it"
            )


def check_sandbox(sandbox: Sandbox | str | None) -> Sandbox | str | None:
    """Return a sandbox or its name; nothing is started.

    Raises:
        DefinitionError: no sandbox has this name, or it is not a sandbox.
    """
    if isinstance(sandbox, str):
        if sandbox not in SANDBOXES:
            find_sandbox(sandbox)  # raises
    elif sandbox is not None and not callable(getattr(sandbox, "start", None)):
        raise DefinitionError(
            f"a sandbox is the name of one, such as 'monty', or an object with `name` and `start`, "
            f"not {shorten(sandbox)}"
        )
    return sandbox


def limits_of(config: Mapping[str, Any] | SandboxLimits | None) -> SandboxLimits | None:
    """Return limits, also from their data.

    Raises:
        DefinitionError: a limit is unknown or invalid.
    """
    if config is None or isinstance(config, SandboxLimits):
        return config
    if not isinstance(config, Mapping):
        raise DefinitionError(
            f"`limits` takes a SandboxLimits, such as SandboxLimits(seconds=5), not "
            f"{shorten(config)}"
        )
    names = [field.name for field in dataclasses.fields(SandboxLimits)]
    for name in config:
        if name not in names:
            raise DefinitionError(f"there is no limit {name!r}; limits are: {', '.join(names)}")
    return SandboxLimits(**config)


def json_inputs(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return inputs as JSON data, for the names of the code."""
    data: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(plain(dict(values))))
    return data
