"""The parent as a language model: it has the keys, the budget and the cache. `compat` gives it dspy's interfaces."""

from typing import TYPE_CHECKING, Any

from . import compat

if TYPE_CHECKING:
    from .trail import Trail

_PASSED = ("temperature", "max_tokens", "top_p", "stop", "seed")


class ParentModel:
    """Asks the parent for one call. `name` is the model's; `takes_schema` and `takes_json` say what it can do."""

    def __init__(self, call: Any, about: "dict[str, Any]", trail: "Trail | None" = None) -> None:  # noqa: ANN401
        self.name: str = about["name"]
        self._about = about
        self._call = call
        self._trail = trail

    @property
    def takes_schema(self) -> bool:
        """Whether replies may be asked for under a schema."""
        return "response_schema" in self._about.get("capabilities", ())

    @property
    def takes_json(self) -> bool:
        """Whether replies may be asked for as JSON."""
        return self.takes_schema or "json_mode" in self._about.get("capabilities", ())

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
        return self._sent(asked, self._call, self._trail)

    def _sent(self, asked: "dict[str, Any]", call: Any, trail: "Trail | None") -> "dict[str, Any]":  # noqa: ANN401
        if trail is not None:
            asked |= trail.here()
        reply: dict[str, Any] = call.callback("lm", asked)
        return reply

    def replies(self, messages: "list[dict[str, Any]]", settings: "dict[str, Any]") -> "list[dict[str, Any]]":
        """Ask once for each of `n` answers."""
        return [self.ask(messages, settings) for _ in range(settings.get("n") or 1)]


class OwnModel(ParentModel):
    """A model that one predictor names. It outlives the calls, so it asks in the call that is under way."""

    def __init__(self, name: str) -> None:
        """Take the model string, which the parent resolves."""
        super().__init__(None, {"name": name})

    @property
    def takes_schema(self) -> bool:
        """Whether replies may be asked for under a schema; outside of a call it is not known."""
        return self._now().takes_schema

    @property
    def takes_json(self) -> bool:
        """Whether replies may be asked for as JSON; outside of a call it is not known."""
        return self._now().takes_json

    def _now(self) -> ParentModel:
        call, known = compat.setting("dspex_call"), compat.setting("dspex_models")
        if call is None or known is None:
            return ParentModel(None, {"name": self.name})
        if self.name not in known:
            known[self.name] = call.callback("model", {"name": self.name})
        return ParentModel(call, known[self.name])

    def _sent(self, asked: "dict[str, Any]", call: Any, trail: "Trail | None") -> "dict[str, Any]":  # noqa: ANN401
        call, trail = compat.setting("dspex_call"), compat.setting("dspex_trail")
        if call is None:
            raise RuntimeError(f"the model {self.name!r} is asked while no program runs: ask it in `forward`")
        return super()._sent({**asked, "own": self.name}, call, trail)


def _plain(message: "dict[str, Any]") -> "dict[str, str]":
    content = message["content"]
    if not isinstance(content, str):
        if other := sorted({str(part.get("type")) for part in content} - {"text"}):
            raise compat.PartsError(other)
        content = "".join(part["text"] for part in content)
    return {"role": message["role"], "content": content}


def _format(wanted: Any) -> "dict[str, Any]":  # noqa: ANN401
    if isinstance(wanted, dict):
        schema = wanted.get("schema") or wanted.get("json_schema", {}).get("schema")
        return {"response_schema": schema} if schema else {"json_mode": True}
    return {"response_schema": wanted.model_json_schema()}
