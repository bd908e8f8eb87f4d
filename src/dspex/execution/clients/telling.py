"""What who listens to a streamed reply hears of it."""

import msgspec

from dspex.execution.clients.language_model import Emit, Request, Response, told


class Telling:
    """Passes on the pieces of one reply that count: its text, or the arguments of the tool that had to be called."""

    __slots__ = ("_call", "_emit", "_is_call", "_request", "any")

    def __init__(self, request: Request, emit: Emit) -> None:
        """Take what was asked, and who listens."""
        self.any = False
        self._request = request
        self._emit = emit
        self._is_call = request.forces_a_tool
        self._call: int | None = None

    async def text(self, piece: str | None) -> None:
        """Take a piece of the text."""
        if piece and not self._is_call:
            self.any = True
            await self._emit(piece)

    async def arguments(self, piece: str | None, index: int = 0) -> None:
        """Take a piece of the arguments, as JSON text, of the call at `index`; the first call is the one."""
        if not piece or not self._is_call:
            return
        self._call = index if self._call is None else self._call
        if index == self._call:
            self.any = True
            await self._emit(piece)

    async def values(self, arguments: object) -> None:
        """Take the arguments of a call that came whole."""
        await self.arguments(msgspec.json.encode(arguments).decode(), 0 if self._call is None else -1)

    async def end(self, response: Response) -> Response:
        """Tell all of a reply of which there were no pieces, and return it."""
        if not self.any and (text := told(self._request, response)):
            await self._emit(text)
        return response
