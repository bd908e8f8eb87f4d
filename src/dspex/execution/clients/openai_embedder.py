"""Embedders with the OpenAI protocol: OpenAI, Mistral, vLLM, Ollama, llama.cpp and many more.

Protocol: the public API reference of OpenAI, "Create embeddings".
"""

import binascii
from base64 import b64decode
from collections.abc import Sequence
from typing import Any

import msgspec

from dspex.arguments import checks_names
from dspex.errors import ModelError
from dspex.execution.clients.address import ServerAddress
from dspex.execution.clients.embedder import EmbeddingKind, load_numpy
from dspex.execution.clients.endpoint import ModelEndpoint, usage_of
from dspex.execution.clients.identity import server_identity
from dspex.execution.clients.server_embedder import ServerEmbedder
from dspex.execution.clients.transport import Transport
from dspex.language.records import Usage


class _Item(msgspec.Struct, gc=False):
    embedding: list[float] | str
    index: int | None = None


class _Usage(msgspec.Struct, gc=False):
    prompt_tokens: int = 0


class _Reply(msgspec.Struct, gc=False):
    data: list[_Item]
    usage: _Usage | None = None


_decode = msgspec.json.Decoder(_Reply).decode


@checks_names
class OpenAIEmbedder(ServerEmbedder):
    """One embedding model at one endpoint. The key is sent in a header and used nowhere else.

    The protocol does not distinguish queries and documents.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str = "https://api.openai.com/v1",
        api_key: str | None = None,
        name: str | None = None,
        dimensions: int | None = None,
        transport: Transport | None = None,
        revision: str = "",
    ) -> None:
        """Take the model's name and address; see `OpenAIModel`.

        `dimensions` asks for shorter vectors, which only some models can give.
        """
        address = ServerAddress.of(base_url)
        identity = server_identity(model, address, name=name, revision=revision)
        super().__init__(identity, name=name or model, dimensions=dimensions)
        self._body: dict[str, Any] = {"model": model}
        if dimensions is not None:
            self._body["dimensions"] = dimensions
        if address.base_url.startswith("https://api.openai.com/"):  # others may not know it
            self._body["encoding_format"] = "base64"
        headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        self._endpoint = ModelEndpoint(
            self.name, address, "embeddings", headers=headers, transport=transport
        )

    def __repr__(self) -> str:
        return f"OpenAIEmbedder({self._body['model']!r}, url={self._endpoint.url!r})"

    async def send(self, texts: Sequence[str], kind: EmbeddingKind) -> tuple[Sequence[Any], Usage]:
        """Send one batch; see `ServerEmbedder.send`."""
        answer = await self._endpoint.post({**self._body, "input": texts})
        body = self._endpoint.check(answer)
        reply = self._endpoint.read(_decode, body)
        places = [item.index if item.index is not None else n for n, item in enumerate(reply.data)]
        rows = {place: item.embedding for place, item in zip(places, reply.data, strict=True)}
        if set(rows) != set(range(len(texts))) or len(reply.data) != len(texts):
            raise ModelError(
                f"{self.name} answered with {len(reply.data)} vectors for {len(texts)} texts"
            )
        tokens = (reply.usage or _Usage()).prompt_tokens
        usage, _ = usage_of(self.identity.price, input_counts=(tokens,), output_counts=())
        return [self._row(rows[n], body) for n in range(len(texts))], usage

    async def aclose(self) -> None:
        """Close this loop's connections."""
        await self._endpoint.aclose()

    def _row(self, embedding: list[float] | str, body: bytes) -> Any:
        if not isinstance(embedding, str):
            return embedding
        try:
            return load_numpy("embeddings").frombuffer(b64decode(embedding), dtype="<f4")
        except (binascii.Error, ValueError) as error:
            raise self._endpoint.unreadable_error(error, body) from error
