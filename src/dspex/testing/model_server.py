"""In-memory models behind the OpenAI protocol on loopback: for tests of clients, benchmarks."""

from base64 import b64encode
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from dspex.execution.clients import LanguageModel, Request
from dspex.execution.clients.chat_parts import read_chat_content
from dspex.execution.clients.embedder import Embedder
from dspex.language.records import Message


class ModelServer:
    """Answers chat completions and embeddings with the model of the request.

    Use it in `async with`. `calls` counts the replies by model name.
    """

    def __init__(
        self, models: Mapping[str, LanguageModel], embedders: Mapping[str, Embedder] | None = None
    ) -> None:
        """Take models and embedders by name; more may be added to `models` later."""
        self.models = dict(models)
        self.embedders = dict(embedders or {})
        self.calls: dict[str, int] = {}
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._complete)
        app.router.add_post("/v1/embeddings", self._embed)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True)

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._runner.cleanup()

    @property
    def url(self) -> str:
        """The base URL for clients, with the version and without a trailing slash."""
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"

    async def _complete(self, http_request: web.Request) -> web.Response:
        body: dict[str, Any] = await http_request.json()
        name = body["model"]
        if name not in self.models:
            return _unknown(name)
        self.calls[name] = self.calls.get(name, 0) + 1
        messages = tuple(
            Message(item["role"], read_chat_content(item["content"])) for item in body["messages"]
        )
        response_format = body.get("response_format") or {}
        request = Request(
            messages=messages,
            temperature=body.get("temperature"),
            max_tokens=body.get("max_tokens"),
            seed=body.get("seed"),
            response_schema=response_format.get("json_schema", {}).get("schema"),
        )
        response = await self.models[name].complete(request)
        usage = response.usage
        return web.json_response(
            {
                "id": f"{name}-{self.calls[name]}",
                "object": "chat.completion",
                "created": 0,
                "model": name,
                "choices": [
                    {
                        "index": 0,
                        "message": {"role": "assistant", "content": response.text},
                        "finish_reason": "stop",
                    }
                ],
                "usage": {
                    "prompt_tokens": usage.input_tokens,
                    "completion_tokens": usage.output_tokens,
                    "total_tokens": usage.total_tokens,
                },
            }
        )

    async def _embed(self, http_request: web.Request) -> web.Response:
        body: dict[str, Any] = await http_request.json()
        name = body["model"]
        if name not in self.embedders:
            return _unknown(name)
        self.calls[name] = self.calls.get(name, 0) + 1
        embeddings = await self.embedders[name].embed(body["input"])
        is_binary = body.get("encoding_format") == "base64"
        data = [
            {"index": n, "embedding": b64encode(row).decode() if is_binary else row.tolist()}
            for n, row in enumerate(embeddings.vectors[:, : body.get("dimensions")].astype("<f4"))
        ]
        tokens = embeddings.usage.input_tokens
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        reply = {"object": "list", "model": name, "data": data, "usage": usage}
        return web.json_response(reply)


def _unknown(name: str) -> web.Response:
    return web.json_response({"error": {"message": f"unknown model {name!r}"}}, status=404)
