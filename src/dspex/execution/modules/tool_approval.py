"""Calls of tools by modules: a person approves those whose policy demands it."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from dspex.errors import QuestionExpiredError, ToolError
from dspex.execution.ask import answer_to
from dspex.execution.context import current
from dspex.execution.effects import call_tool
from dspex.execution.question import Question
from dspex.execution.tools import Tool, ToolSet
from dspex.language.signatures import Signature
from dspex.language.signatures.codec import plain


async def run_tool(tools: ToolSet, name: str, arguments: Mapping[str, Any]) -> Any:
    """Call a tool in the current context: approved if need be, and once in a durable run.

    Raises:
        ToolError: there is no such tool, it failed, or the call was rejected.
    """

    async def call() -> Any:
        return await tools.run(name, arguments, approve=approve)

    return await call_tool(current(), name, arguments, call=call)


@cache
def _signature() -> Signature:
    return Signature.of(
        "tool: str, arguments: dict[str, any] -> approved: bool, reason: str = ''"
    ).with_instructions("Approve the call of a tool, or reject it with a reason.")


async def approve(tool: Tool, arguments: Mapping[str, Any]) -> None:
    """Ask a person to approve a call; an agent observes the reason of a rejection.

    Raises:
        ToolError: the call was rejected, or nobody answered in time.
        WaitingForAnswerError: nobody can answer here.
    """
    question = Question(
        signature=_signature(),
        inputs={"tool": tool.name, "arguments": plain(dict(arguments))},
        kind="approval",
        ttl=tool.policy.approval_ttl,
    )
    try:
        answer = await answer_to(question)
    except QuestionExpiredError as error:
        raise ToolError(f"{tool.name}: nobody approved this call in time") from error
    if not answer["approved"]:
        reason = f": {answer['reason']}" if answer["reason"] else ""
        raise ToolError(f"{tool.name}: a person rejected this call{reason}")
