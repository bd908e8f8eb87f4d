"""Embedders of Google, through the Gemini API.

Protocol: the public API reference, "batchEmbedContents" (v1beta).
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from dspex.arguments import checks_names
from dspex.errors import ContextTooLongError
from dspex.execution.clients.address import ServerAddress
from dspex.execution.clients.embedder import EmbeddingKind
from dspex.execution.clients.endpoint import ModelEndpoint, usage_of
from dspex.execution.clients.identity import server_identity
from dspex.execution.clients.server_embedder import ServerEmbedder
from dspex.execution.clients.transport import Transport
from dspex.language.records import Usage

MAX_CHARACTERS: Final = 6000
_TASKS: Final = {"query": "RETRIEVAL_QUERY", "document": "RETRIEVAL_DOCUMENT"}


class _Embedding(msgspec.Struct):
    values: list[float] = []


class _Usage(msgspec.Struct, rename="camel"):
    prompt_token_count: int = 0


class _Reply(msgspec.Struct, rename="camel"):
    embeddings: list[_Embedding] = []
    usage_metadata: _Usage | None = None


_decode = msgspec.json.Decoder(_Reply).decode


@checks_names
class GeminiEmbedder(ServerEmbedder):
    """One embedding model of Google; it distinguishes queries and documents.

    Google may cut a text after 2,048 tokens without a word, so texts of more than 6,000 characters
    are refused. Some replies have no token counts: then the cost is unknown.
    """

    def __init__(
        self,
        model: str,
        *,
        api_key: str | None = None,
        base_url: str = "https://generativelanguage.googleapis.com/v1beta",
        dimensions: int | None = None,
        transport: Transport | None = None,
    ) -> None:
        """Take the model's name; `dimensions` asks for shorter vectors."""
        address, name = ServerAddress.of(base_url), f"gemini/{model}"
        identity = server_identity(model, address, name=name)
        super().__init__(identity, name=name, dimensions=dimensions)
        self._item: dict[str, Any] = {"model": f"models/{model}"}
        if dimensions is not None:
            self._item["outputDimensionality"] = dimensions
        headers = {"x-goog-api-key": api_key} if api_key else {}
        self._endpoint = ModelEndpoint(
            name,
            address,
            f"models/{model}:batchEmbedContents",
            headers=headers,
            transport=transport,
        )

    def __repr__(self) -> str:
        return f"GeminiEmbedder({self.name!r}, url={self._endpoint.url!r})"

    async def send(self, texts: Sequence[str], kind: EmbeddingKind) -> tuple[Sequence[Any], Usage]:
        """Send one batch; see `ServerEmbedder.send`."""
        if (longest := max(map(len, texts))) > MAX_CHARACTERS:
            raise ContextTooLongError(
                f"a text has {longest} characters, and {self.name} takes {MAX_CHARACTERS}; divide "
                "it into smaller chunks"
            )
        items = [
            {**self._item, "taskType": _TASKS[kind], "content": {"parts": [{"text": text}]}}
            for text in texts
        ]
        answer = await self._endpoint.post({"requests": items})
        reply = self._endpoint.read(_decode, self._endpoint.check(answer))
        usage = Usage(calls=1, cost_usd=None)
        if reply.usage_metadata is not None:
            tokens = reply.usage_metadata.prompt_token_count
            usage, _ = usage_of(self.identity.price, input_counts=(tokens,), output_counts=())
        return [item.values for item in reply.embeddings], usage

    async def aclose(self) -> None:
        """Close this loop's connections."""
        await self._endpoint.aclose()
