"""An embedding model in this process, through llama.cpp: any `.gguf` file, no server.

Needs the extra `dspex[local]`.
"""

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, Literal

from dspex.arguments import checks_names
from dspex.errors import ConfigurationError, ContextTooLongError, ModelError, boundary
from dspex.execution.clients.embedder import EmbeddingKind
from dspex.execution.clients.identity import LOCAL, ModelIdentity
from dspex.execution.clients.local import load_server
from dspex.execution.clients.server_embedder import ServerEmbedder
from dspex.language.records import Usage

_SAMPLE: Final = 1 << 20  # bytes


@checks_names
class LocalEmbedder(ServerEmbedder):
    """A `.gguf` file, loaded at the first call; embeds one batch at a time.

    Queries and documents are not distinguished: a model that wants prefixes gets them with the
    texts.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        pooling: Literal["mean", "cls", "last"] | None = None,
        threads: int = 2,
        context_length: int = 2048,
    ) -> None:
        """Take the file, without reading it.

        Args:
            path: the `.gguf` file.
            pooling: how the vectors of tokens become the vector of a text; by default as the file
                says. Files of models that generate text do not say it.
            threads: number of computing threads.
            context_length: the maximum number of tokens in a text.
        """
        self.path = Path(path)
        identity = ModelIdentity(
            provider=LOCAL, name=self.path.stem, base_url=f"file://{self.path.absolute()}"
        )
        super().__init__(identity, name=f"local/{self.path.stem}", dimensions=None)
        self._pooling = pooling
        self._fingerprint: str | None = None
        self._threads = threads
        self._context_length = context_length
        self._server: Any = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="dspex-embed")

    @property
    def fingerprint(self) -> str:
        """Return the fingerprint: of the size, the beginning and the end of the file.

        Raises:
            ConfigurationError: there is no such file.
        """
        if self._fingerprint is None:
            with boundary(ConfigurationError, f"{str(self.path)!r} cannot be read"):
                size = self.path.stat().st_size
                with self.path.open("rb") as file:
                    digest = hashlib.sha256(f"{size} {self._pooling}".encode())
                    digest.update(file.read(_SAMPLE))
                    file.seek(max(0, size - _SAMPLE))
                    digest.update(file.read())
            self._fingerprint = f"{self.path.stem}:{digest.hexdigest()[:16]}"
        return self._fingerprint

    def __repr__(self) -> str:
        return f"LocalEmbedder({str(self.path)!r})"

    async def send(self, texts: Sequence[str], kind: EmbeddingKind) -> tuple[Sequence[Any], Usage]:
        """Compute one batch; see `ServerEmbedder.send`."""
        reply = await asyncio.get_running_loop().run_in_executor(self._thread, self._compute, texts)
        rows = [item["embedding"] for item in sorted(reply["data"], key=lambda item: item["index"])]
        return rows, Usage(input_tokens=reply["usage"]["prompt_tokens"], calls=1)

    async def aclose(self) -> None:
        """Free the model's memory; the next call loads it again."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._unload)

    def _unload(self) -> None:
        self._server = None

    def _compute(self, texts: Sequence[str]) -> Mapping[str, Any]:
        if self._server is None:
            self._server = load_server(self.path, self._set_up)
        with boundary(ModelError, f"{self.name} cannot embed"):
            reply: Mapping[str, Any] = self._server.handle_embeddings({"input": list(texts)})
        if "error" not in reply:
            return reply
        message = str(reply["error"].get("message", reply["error"]))
        if "too large to process" in message:
            raise ContextTooLongError(f"{self.name} takes {self._context_length} tokens: {message}")
        raise ModelError(f"{self.name} cannot embed: {message}")

    def _set_up(self, params: Any) -> None:
        params.embedding = True
        if self._pooling is not None:
            types = type(params.pooling_type)
            params.pooling_type = types[f"LLAMA_POOLING_TYPE_{self._pooling.upper()}"]
        # a text is computed in one batch
        params.n_ctx = params.n_batch = params.n_ubatch = self._context_length
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = self._threads
