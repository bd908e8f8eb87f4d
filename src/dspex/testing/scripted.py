"""A language model with scripted answers."""

import asyncio
from collections.abc import Callable, Iterable

from dspex.execution.clients import Capability, Emit, Request, Response
from dspex.execution.clients.language_model import streamed_text
from dspex.language.records import ToolCall, Usage

Reply = (
    str
    | Response
    | ToolCall
    | Exception
    | Callable[[Request], "str | Response | ToolCall | Exception"]
)


class ScriptedModel:
    """Answers each call with the next reply; the last reply answers all later calls.

    A reply is a text, a tool call, a response, an exception (which is raised), or a function of the
    request that returns one of these. `requests` lists the requests. Usage counts words, so that it
    is the same on every machine.
    """

    def __init__(
        self,
        *replies: Reply,
        name: str = "scripted",
        capabilities: Iterable[Capability] = (),
        cost_usd: float | None = 0.0,
        piece: int = 4,
    ) -> None:
        """Take the script.

        Args:
            replies: in the order of the calls; at least one.
            name: the model name in usage.
            capabilities: the declared capabilities.
            cost_usd: the cost of a call.
            piece: characters in each chunk of a streamed reply.
        """
        if not replies:
            raise ValueError("a scripted model needs at least one reply")
        self.name = name
        self.capabilities: frozenset[Capability] = frozenset(capabilities)
        self.requests: list[Request] = []
        self.closed = 0
        self._replies = replies
        self._cost = cost_usd
        self._piece = piece

    async def complete(self, request: Request) -> Response:
        """Answer with the next reply."""
        self.requests.append(request)
        reply = self._replies[min(len(self.requests), len(self._replies)) - 1]
        if callable(reply):
            reply = reply(request)
        if isinstance(reply, Exception):
            raise reply
        await asyncio.sleep(0)  # a real model yields to other tasks
        return reply if isinstance(reply, Response) else self._response(request, reply)

    async def stream(self, request: Request, emit: Emit) -> Response:
        """Answer with the next reply in chunks."""
        response = await self.complete(request)
        text = streamed_text(request, response)
        for start in range(0, len(text), self._piece):
            await emit(text[start : start + self._piece])
        return response

    async def aclose(self) -> None:
        """Count the call."""
        self.closed += 1

    def _response(self, request: Request, reply: str | ToolCall) -> Response:
        text, calls = (reply, ()) if isinstance(reply, str) else ("", (reply,))
        usage = Usage(
            input_tokens=sum(len(message.text.split()) for message in request.messages),
            output_tokens=len(text.split()),
            calls=1,
            cost_usd=self._cost,
        )
        return Response(
            text=text, usage=usage, model=self.name, finish_reason="stop", tool_calls=calls
        )
