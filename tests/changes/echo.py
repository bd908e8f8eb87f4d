"""A client for the test: a protocol that repeats the last message."""

from dspex.execution.clients.language_model import Request, Response
from dspex.language.records import Usage


class EchoModel:
    """Repeats the last message."""

    capabilities = frozenset()

    def __init__(self, model, *, base_url, api_key=None, transport=None, media=None):
        self.name, self.base_url, self.api_key = f"echo/{model}", base_url, api_key

    async def complete(self, request: Request) -> Response:
        """Repeat the last message."""
        return Response(text=request.messages[-1].content, usage=Usage(), model=self.name)

    async def aclose(self) -> None:
        """Hold nothing."""
