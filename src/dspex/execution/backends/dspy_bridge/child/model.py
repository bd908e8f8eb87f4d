"""The parent as a language model: it has the keys, the budget and the cache.

`compat` adapts it to dspy's interfaces.
"""

from typing import TYPE_CHECKING, Any

from . import compat

if TYPE_CHECKING:
    from .trail import Trail

_PASSED = ("temperature", "max_tokens", "top_p", "stop", "seed")


class ParentModel:
    """Calls the parent's model during one call of a program."""

    def __init__(self, call: Any, about: "dict[str, Any]", trail: "Trail | None" = None) -> None:
        self.name: str = about["name"]
        self._about = about
        self._call = call
        self._trail = trail

    @property
    def takes_schema(self) -> bool:
        """Whether the model supports response schemas."""
        return "response_schema" in self._about.get("capabilities", ())

    @property
    def takes_json(self) -> bool:
        """Whether the model supports JSON replies."""
        return self.takes_schema or "json_mode" in self._about.get("capabilities", ())

    def __deepcopy__(self, memo: "dict[int, Any]") -> "ParentModel":
        return self

    def ask(self, messages: "list[dict[str, Any]]", settings: "dict[str, Any]") -> "dict[str, Any]":
        """Return the parent's reply: text, model, finish_reason and usage."""
        request: dict[str, Any] = {
            name: settings[name] for name in _PASSED if settings.get(name) is not None
        }
        request["messages"] = [_plain(message) for message in messages]
        if settings.get("rollout_id") is not None:
            request["rollout"] = settings["rollout_id"]
        if (response_format := settings.get("response_format")) is not None:
            request |= _format_settings(response_format)
        return self._send(request, self._call, self._trail)

    def _send(
        self,
        request: "dict[str, Any]",
        call: Any,
        trail: "Trail | None",
    ) -> "dict[str, Any]":
        if trail is not None:
            request |= trail.current_place()
        reply: dict[str, Any] = call.callback("lm", request)
        return reply

    def replies(
        self, messages: "list[dict[str, Any]]", settings: "dict[str, Any]"
    ) -> "list[dict[str, Any]]":
        """Call the model `n` times."""
        return [self.ask(messages, settings) for _ in range(settings.get("n") or 1)]


class NamedModel(ParentModel):
    """The model of one predictor. It outlives calls, so it uses the call that currently runs."""

    def __init__(self, name: str) -> None:
        """Take the model string that the parent resolves."""
        super().__init__(None, {"name": name})

    @property
    def takes_schema(self) -> bool:
        """Whether the model supports response schemas; False outside of a call."""
        return self._current().takes_schema

    @property
    def takes_json(self) -> bool:
        """Whether the model supports JSON replies; False outside of a call."""
        return self._current().takes_json

    def _current(self) -> ParentModel:
        call, models = compat.setting("dspex_call"), compat.setting("dspex_models")
        if call is None or models is None:
            return ParentModel(None, {"name": self.name})
        if self.name not in models:
            models[self.name] = call.callback("model", {"name": self.name})
        return ParentModel(call, models[self.name])

    def _send(
        self,
        request: "dict[str, Any]",
        call: Any,
        trail: "Trail | None",
    ) -> "dict[str, Any]":
        call, trail = compat.setting("dspex_call"), compat.setting("dspex_trail")
        if call is None:
            raise RuntimeError(
                f"the model {self.name!r} was called while no program runs: call it in `forward`"
            )
        return super()._send({**request, "own": self.name}, call, trail)


def _plain(message: "dict[str, Any]") -> "dict[str, Any]":
    content = message["content"]
    if not isinstance(content, str):
        kinds = {str(part.get("type")) for part in content}
        if unknown := sorted(kinds - compat.PART_TYPES):
            raise compat.PartsError(unknown)
        if kinds == {"text"}:
            content = "".join(part["text"] for part in content)
    return {"role": message["role"], "content": content}


def _format_settings(response_format: Any) -> "dict[str, Any]":
    if isinstance(response_format, dict):
        schema = response_format.get("schema") or response_format.get("json_schema", {}).get(
            "schema"
        )
        return {"response_schema": schema} if schema else {"json_mode": True}
    return {"response_schema": response_format.model_json_schema()}
