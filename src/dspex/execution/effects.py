"""Tool calls and searches, which a durable run makes only once."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec

from dspex.errors import ToolError
from dspex.execution.context import RunContext
from dspex.execution.frame import to_jsonable
from dspex.execution.retrieval import SearchResult
from dspex.language.records import Passage
from dspex.language.records.canonical import content_hash, json_bytes

Passages = Sequence[Passage] | SearchResult


async def call_tool(
    context: RunContext,
    name: str,
    arguments: Mapping[str, Any],
    *,
    call: Callable[[], Awaitable[Any]],
) -> Any:
    """Call a tool; in a durable run that made this call before, return its recorded result.

    A `ToolError` is recorded like a result. A recorded result is JSON.

    Raises:
        ToolError: the tool failed, now or in the recorded call.
    """
    durable = context.frame.durable
    if durable is None:
        return await call()

    def key() -> str:
        return content_hash(_json({"tool": name, "arguments": arguments}))

    stored = await durable.recall("tool", key)
    if stored is None:
        outcome = await durable.perform("tool", key, _outcome(call), encode=_encode)
        if isinstance(outcome, ToolError):
            raise outcome
        return outcome
    if "error" in stored:
        raise ToolError(stored["error"])
    return stored["value"]


async def search_once(
    context: RunContext,
    query: Mapping[str, Any],
    search: Callable[[], Awaitable[Passages]],
) -> Passages:
    """Search; in a durable run that made this query before, return its recorded result."""
    durable = context.frame.durable
    if durable is None:
        return await search()

    def key() -> str:
        return content_hash(_json(query))

    stored = await durable.recall("retrieval", key)
    if stored is None:
        return await durable.perform("retrieval", key, search(), encode=_encode_passages)
    passages: Passages = (
        msgspec.convert(stored["passages"], list[Passage])
        if "passages" in stored
        else msgspec.convert(stored["result"], SearchResult)
    )
    return passages


def _encode_passages(result: Passages) -> dict[str, Any]:
    name = "result" if isinstance(result, SearchResult) else "passages"
    value = result if isinstance(result, SearchResult) else list(result)
    return {name: _json(value)}


async def _outcome(call: Callable[[], Awaitable[Any]]) -> Any:
    try:
        return await call()
    except ToolError as error:
        return error


def _encode(outcome: Any) -> dict[str, Any]:
    if isinstance(outcome, ToolError):
        return {"error": outcome.message}
    return {"value": _json(outcome)}


def _json(value: Any) -> Any:
    return msgspec.json.decode(json_bytes(value, unknown=to_jsonable))
