"""The parent as a language model: it has the keys, the budget and the cache. `compat` gives it dspy's interfaces."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .trail import Trail

_PASSED = ("temperature", "max_tokens", "top_p", "stop", "seed")


class ParentModel:
    """Asks the parent for one call. `name` is the model's; `takes_schema` and `takes_json` say what it can do."""

    def __init__(self, call: Any, about: "dict[str, Any]", trail: "Trail | None" = None) -> None:  # noqa: ANN401
        self.name: str = about["name"]
        abilities = about.get("capabilities", ())
        self.takes_schema = "response_schema" in abilities
        self.takes_json = self.takes_schema or "json_mode" in abilities
        self._call = call
        self._trail = trail

    def __deepcopy__(self, memo: "dict[int, Any]") -> "ParentModel":
        return self

    def ask(self, messages: "list[dict[str, Any]]", settings: "dict[str, Any]") -> "dict[str, Any]":
        """Return the parent's reply: text, model, finish_reason and usage."""
        asked: dict[str, Any] = {name: settings[name] for name in _PASSED if settings.get(name) is not None}
        asked["messages"] = [_plain(message) for message in messages]
        if settings.get("rollout_id") is not None:
            asked["rollout"] = settings["rollout_id"]
        if (wanted := settings.get("response_format")) is not None:
            asked |= _format(wanted)
        if self._trail is not None:
            asked |= self._trail.here()
        reply: dict[str, Any] = self._call.callback("lm", asked)
        return reply

    def replies(self, messages: "list[dict[str, Any]]", settings: "dict[str, Any]") -> "list[dict[str, Any]]":
        """Ask once for each of `n` answers."""
        return [self.ask(messages, settings) for _ in range(settings.get("n") or 1)]


def _plain(message: "dict[str, Any]") -> "dict[str, str]":
    content = message["content"]
    if not isinstance(content, str):
        if not all(part.get("type") == "text" for part in content):
            raise ValueError("only text goes over the bridge; this message holds other parts")
        content = "".join(part["text"] for part in content)
    return {"role": message["role"], "content": content}


def _format(wanted: Any) -> "dict[str, Any]":  # noqa: ANN401
    if isinstance(wanted, dict):
        schema = wanted.get("schema") or wanted.get("json_schema", {}).get("schema")
        return {"response_schema": schema} if schema else {"json_mode": True}
    return {"response_schema": wanted.model_json_schema()}
