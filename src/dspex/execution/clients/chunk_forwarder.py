"""Forward the chunks of a streamed reply to the listener."""

import msgspec

from dspex.execution.clients.language_model import Emit, Request, Response, streamed_text


class ChunkForwarder:
    """Forwards one reply: its text, or the arguments of the tool that the request forces."""

    __slots__ = ("_call", "_emit", "_is_call", "_request", "has_chunks")

    def __init__(self, request: Request, emit: Emit) -> None:
        """Take the request and the listener."""
        self.has_chunks = False
        self._request = request
        self._emit = emit
        self._is_call = request.forces_a_tool
        self._call: int | None = None

    async def text(self, piece: str | None) -> None:
        """Forward a chunk of text."""
        if piece and not self._is_call:
            self.has_chunks = True
            await self._emit(piece)

    async def arguments(self, piece: str | None, index: int = 0) -> None:
        """Forward a chunk of JSON arguments of the call at `index`; only the first call counts."""
        if not piece or not self._is_call:
            return
        self._call = index if self._call is None else self._call
        if index == self._call:
            self.has_chunks = True
            await self._emit(piece)

    async def values(self, arguments: object) -> None:
        """Forward the arguments of a call that arrived in one chunk."""
        await self.arguments(
            msgspec.json.encode(arguments).decode(), 0 if self._call is None else -1
        )

    async def end(self, response: Response) -> Response:
        """Forward the whole reply if no chunk was forwarded, and return it."""
        if not self.has_chunks and (text := streamed_text(self._request, response)):
            await self._emit(text)
        return response
