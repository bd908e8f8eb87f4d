"""In-memory models behind the OpenAI protocol on loopback, for tests and benchmarks of clients."""

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from dspex.execution.clients import LanguageModel, Request
from dspex.language.records import Message


class ModelServer:
    """Answers chat completions with the model of the request. Use it in `async with`.

    `calls` counts the replies by model name.
    """

    def __init__(self, models: Mapping[str, LanguageModel]) -> None:
        """Take the models by name; more may be added to `models` later."""
        self.models = dict(models)
        self.calls: dict[str, int] = {}
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._complete)
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
            return web.json_response({"error": {"message": f"unknown model {name!r}"}}, status=404)
        self.calls[name] = self.calls.get(name, 0) + 1
        messages = tuple(Message(item["role"], item["content"]) for item in body["messages"])
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
