"""dspy's language model in a child: every call goes to the parent, which has the keys, the budget and the cache."""

from typing import Any

import dspy

from . import compat

_PASSED = ("temperature", "max_tokens", "top_p", "stop", "seed")


class WireLM(dspy.BaseLM):
    """Asks the parent. `call` is the request that the program runs for."""

    def __init__(self, call: Any, about: "dict[str, Any]") -> None:  # noqa: ANN401
        super().__init__(model=about["name"], cache=False)
        self.kwargs: dict[str, Any] = {}
        self.call = call
        self._abilities = frozenset(about.get("capabilities", ()))

    def __deepcopy__(self, memo: "dict[int, Any]") -> "WireLM":
        return self.copy()

    @property
    def supports_response_schema(self) -> bool:
        """Whether structured outputs may be asked for."""
        return "response_schema" in self._abilities

    @property
    def supported_params(self) -> "set[str]":
        """The parameters that may be passed."""
        return {"response_format"} if self._abilities & {"response_schema", "json_mode"} else set()

    def forward(self, prompt: "str | None" = None, messages: Any = None, **settings: Any) -> Any:  # noqa: ANN401
        """Ask the parent once for each of `n` answers."""
        merged = {**self.kwargs, **settings}
        asked: dict[str, Any] = {name: merged[name] for name in _PASSED if merged.get(name) is not None}
        asked["messages"] = [_plain(message) for message in messages or [{"role": "user", "content": prompt}]]
        if merged.get("rollout_id") is not None:
            asked["rollout"] = merged["rollout_id"]
        if (wanted := merged.get("response_format")) is not None:
            asked |= _format(wanted)
        count = merged.get("n") or 1
        replies = [self.call.callback("lm", {"model": self.model, **asked}) for _ in range(count)]
        return compat.chat_completion({**replies[0], "texts": [reply["text"] for reply in replies]})

    async def aforward(self, prompt: "str | None" = None, messages: Any = None, **settings: Any) -> Any:  # noqa: ANN401
        """The same for dspy's asynchronous callers."""
        import asyncio

        return await asyncio.to_thread(self.forward, prompt, messages, **settings)


def _plain(message: "dict[str, Any]") -> "dict[str, str]":
    content = message["content"]
    if not isinstance(content, str):
        if not all(part.get("type") == "text" for part in content):
            raise ValueError("only text goes over the bridge; this message holds other parts")
        content = "".join(part["text"] for part in content)
    return {"role": message["role"], "content": content}


def _format(wanted: Any) -> "dict[str, Any]":  # noqa: ANN401
    if isinstance(wanted, dict):
        schema = wanted.get("json_schema", {}).get("schema")
        return {"response_schema": schema} if schema else {"json_mode": True}
    return {"response_schema": wanted.model_json_schema()}
