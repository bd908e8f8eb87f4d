"""The differences between the supported versions of dspy (3.3, 3.4), and the changes of 3.5.

3.3 and 3.4 call a language model through `BaseLM.forward` with chat messages. 3.5 removes that
method and calls an engine with `complete(request)`, an interface that 3.4 has already:
`language_model` chooses what the installed version has. 3.5 also makes XML its default adapter, so
the adapter is always explicit.
"""

import asyncio
import base64
import warnings
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from functools import cache, partial, wraps
from typing import Any

try:
    import dspy
    from dspy.utils.callback import with_callbacks
    from dspy.utils.exceptions import AdapterParseError
    from dspy.utils.saving import get_dependency_versions
except ImportError as error:
    raise ImportError(
        f"dspy is not installed in this interpreter ({error}): pip install 'dspex[dspy]' "
        "(dspy 3.4 includes litellm), or name an interpreter that has dspy"
    ) from None

# 3.4 warns at every call that 3.5 removes `forward`; this module handles both versions
warnings.filterwarnings("ignore", category=DeprecationWarning, message=r".*BaseLM\.forward")
warnings.filterwarnings("ignore", category=DeprecationWarning, message=r".*messages=")

__all__ = [
    "HAS_ENGINES",
    "OWN_TYPES",
    "PART_TYPES",
    "VERSION",
    "AdapterParseError",
    "PartsError",
    "dspy",
    "language_model",
    "local_interpreter",
    "redirect_models",
    "satisfies",
    "saved_state",
    "setting",
    "trace_modules",
    "turn_off_caches",
]

VERSION: str = dspy.__version__
HAS_ENGINES = hasattr(dspy, "lm15")
local_interpreter: Any = getattr(dspy, "LocalInterpreter", None)  # since 3.4
# dspy types that dspex also has; 3.3.0 may lack some
OWN_TYPES: "dict[str, Any]" = {
    name: found
    for name in ("History", "Image", "Audio", "File", "Code", "ToolCalls", "Reasoning")
    if (found := getattr(dspy, name, None)) is not None
}
PART_TYPES = frozenset({"text", "image_url", "input_audio", "file"})
_LM_SETTINGS = (
    "temperature",
    "max_tokens",
    "top_p",
    "stop",
    "seed",
    "n",
    "response_format",
    "rollout_id",
)
_rollout: "ContextVar[int | None]" = ContextVar("dspex_rollout", default=None)


def language_model(parent: Any, interface: str = "auto") -> Any:
    """Return a dspy language model that calls `parent` (a `ParentModel`).

    `interface` is "forward" or "engine"; "auto" prefers forward if the version has it, because it
    is cheaper.
    """
    if interface == "auto":
        interface = "forward" if hasattr(dspy.BaseLM, "forward") else "engine"
    if interface == "engine":
        if not HAS_ENGINES:
            raise ValueError(
                f"dspy {VERSION} does not support engines; use the interface 'forward'"
            )
        return _engine_class()(parent)
    return WireLM(parent)


class PartsError(ValueError):
    """A message holds something other than text, images, audio and files."""

    code = "definition"

    def __init__(self, kinds: "list[str]") -> None:
        super().__init__(
            f"models of dspex take text, images, audio and files, and this message holds "
            f"{', '.join(kinds)}: leave such values out of the prompts of this program"
        )


class WireLM(dspy.BaseLM):
    """The parent as a `BaseLM`. Chat messages go directly to it; other calls use dspy's code."""

    def __init__(self, parent: Any) -> None:
        super().__init__(model=parent.name, cache=False)
        self.kwargs: dict[str, Any] = {}
        self._parent = parent

    def __deepcopy__(self, memo: "dict[int, Any]") -> "WireLM":
        return self.copy()

    def dump_state(self) -> "dict[str, Any]":
        """Return the state of a model, without the parent, so that any dspy can load it."""
        state: dict[str, Any] = dspy.LM(self.model, cache=False).dump_state()
        return state

    def launch(self, launch_kwargs: Any = None) -> None:
        """Do nothing: the parent owns the model. BetterTogether calls this before its steps."""

    def kill(self, launch_kwargs: Any = None) -> None:
        """Do nothing: the parent owns the model."""

    @property
    def supports_response_schema(self) -> bool:
        """Whether the model supports structured outputs."""
        return bool(self._parent.takes_schema)

    @property
    def supported_params(self) -> "set[str]":
        """The supported parameters."""
        return {"response_format"} if self._parent.takes_json else set()

    def __call__(self, *items: Any, messages: Any = None, **settings: Any) -> Any:
        """Answer chat messages with a list of texts."""
        dspy_settings = dspy.settings
        if items or not isinstance(messages, list) or "request" in settings:
            return super().__call__(*items, messages=messages, **settings)
        if not dspy_settings.disable_history or dspy_settings.get("experimental"):
            return super().__call__(messages=messages, **settings)
        return self._call_with_callbacks(messages=messages, **settings)

    def _texts(self, messages: Any, **settings: Any) -> "list[str]":
        # the parent does what dspy does around `forward`: copies, retries, history, prices,
        # warnings
        replies = self._parent.replies(messages, {**self.kwargs, **settings})
        if (tracker := dspy.settings.usage_tracker) is not None:
            for reply in replies:
                tracker.add_usage(self.model, dict(reply["usage"]))
        return [reply["text"] for reply in replies]

    _call_with_callbacks = with_callbacks(_texts)  # callbacks that the user set in dspy

    async def acall(self, *items: Any, messages: Any = None, **settings: Any) -> Any:
        """Do the same for async callers."""
        return await asyncio.to_thread(
            partial(self.__call__, *items, messages=messages, **settings)
        )

    def forward(self, prompt: "str | None" = None, messages: Any = None, **settings: Any) -> Any:
        """Return a chat completion, which dspy 3.3 and 3.4 read."""
        chat = messages or [{"role": "user", "content": prompt}]
        return _chat_completion(self._parent.replies(chat, {**self.kwargs, **settings}))

    async def aforward(
        self,
        prompt: "str | None" = None,
        messages: Any = None,
        **settings: Any,
    ) -> Any:
        """Do the same for async callers."""
        return await asyncio.to_thread(partial(self.forward, prompt, messages, **settings))


class _Shape:
    """An object with any attributes, for the parts of a chat completion."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


def _chat_completion(replies: "list[dict[str, Any]]") -> Any:
    choices = [
        _Shape(
            message=_Shape(content=reply["text"], role="assistant"),
            finish_reason=reply.get("finish_reason") or "stop",
        )
        for reply in replies
    ]
    first = replies[0]
    return _Shape(
        choices=choices, usage=first["usage"], model=first["model"], id="", object="chat.completion"
    )


class ParentEngine:
    """The parent as an engine: one canonical request, one response."""

    def __init__(self, parent: Any) -> None:
        self._parent = parent

    def __deepcopy__(self, memo: "dict[int, Any]") -> "ParentEngine":
        return self

    @property
    def supports_response_schema(self) -> bool:
        """Whether the model supports structured outputs."""
        return bool(self._parent.takes_schema)

    @property
    def supported_params(self) -> "frozenset[str]":
        """The supported parameters."""
        return frozenset({"response_format"} if self._parent.takes_json else ())

    def complete(self, request: Any) -> Any:
        """Call the parent."""
        lm15, config = dspy.lm15, request.config
        settings = {
            name: getattr(config, name) for name in ("temperature", "max_tokens", "top_p", "seed")
        }
        settings |= {"stop": list(config.stop) or None, "response_format": config.response_format}
        reply = self._parent.ask(_messages(request), {**settings, "rollout_id": _rollout.get()})
        usage = reply["usage"]
        return lm15.Response(
            id=None,
            model=reply["model"],
            message=lm15.Message.assistant([lm15.TextPart(reply["text"])]),
            finish_reason="length" if reply.get("finish_reason") == "length" else "stop",
            usage=lm15.Usage(
                input_tokens=usage["prompt_tokens"],
                output_tokens=usage["completion_tokens"],
                total_tokens=usage["total_tokens"],
            ),
        )

    def stream(self, request: Any) -> "Iterator[Any]":
        """Return the reply as a whole: the parent streams to its own caller."""
        yield from dspy.lm15.response_to_events(self.complete(request))

    def close(self) -> None:
        """Do nothing: the parent owns the model."""


class AsyncParentEngine:
    """The engine for async callers."""

    def __init__(self, engine: ParentEngine) -> None:
        self._engine = engine

    def __deepcopy__(self, memo: "dict[int, Any]") -> "AsyncParentEngine":
        return self

    @property
    def supports_response_schema(self) -> bool:
        """Whether the model supports structured outputs."""
        return self._engine.supports_response_schema

    @property
    def supported_params(self) -> "frozenset[str]":
        """The supported parameters."""
        return self._engine.supported_params

    async def complete(self, request: Any) -> Any:
        """Call the parent."""
        return await asyncio.to_thread(self._engine.complete, request)

    async def stream(self, request: Any) -> Any:
        """Return the reply as a whole."""
        for event in dspy.lm15.response_to_events(await self.complete(request)):
            yield event

    async def aclose(self) -> None:
        """Do nothing: the parent owns the model."""


def _messages(request: Any) -> "list[dict[str, Any]]":
    messages = []
    if request.system is not None:
        system = request.system if isinstance(request.system, str) else _chat_parts(request.system)
        messages.append({"role": "system", "content": system})
    roles = {"developer": "system"}
    return [
        *messages,
        *(
            {"role": roles.get(m.role, m.role), "content": _chat_parts(m.parts)}
            for m in request.messages
        ),
    ]


def _chat_parts(parts: Any) -> "list[dict[str, Any]]":
    """Return an engine's parts in the form of chat messages."""
    return [_chat_part(part) for part in parts]


def _chat_part(part: Any) -> "dict[str, Any]":
    if part.type == "text":
        return {"type": "text", "text": part.text}
    if part.type not in {"image", "audio", "document", "binary"} or part.file_id is not None:
        raise PartsError([str(part.type)])
    if part.type == "image":
        detail = {"detail": part.detail} if part.detail else {}
        return {"type": "image_url", "image_url": {"url": part.url or _data_uri(part), **detail}}
    if part.type == "audio" and part.url is None:
        audio_format = part.media_type.partition("/")[2].removeprefix("x-")
        audio = {"data": _base64(part), "format": {"mpeg": "mp3"}.get(audio_format, audio_format)}
        return {"type": "input_audio", "input_audio": audio}
    return {"type": "file", "file": {"file_data": part.url or _data_uri(part)}}


def _data_uri(part: Any) -> str:
    return f"data:{part.media_type};base64,{_base64(part)}"


def _base64(part: Any) -> str:
    return base64.b64encode(part.bytes).decode("ascii")


@cache
def _engine_class() -> Any:
    class EngineLM(dspy.LM):
        def __init__(self, parent: Any) -> None:
            engine = ParentEngine(parent)
            super().__init__(
                parent.name,
                cache=False,
                num_retries=0,
                engine=engine,
                async_engine=AsyncParentEngine(engine),
            )
            self.kwargs: dict[str, Any] = {}

        def dump_state(self) -> "dict[str, Any]":
            state: dict[str, Any] = dspy.LM(self.model, cache=False).dump_state()
            return state

        def __deepcopy__(self, memo: "dict[int, Any]") -> Any:
            return self.copy()

        def __call__(self, *items: Any, **settings: Any) -> Any:
            # engines do not get the rollout, but the parent's cache depends on it
            token = _rollout.set(settings.get("rollout_id", self.kwargs.get("rollout_id")))
            try:
                return super().__call__(*items, **settings)
            finally:
                _rollout.reset(token)

        async def acall(self, *items: Any, **settings: Any) -> Any:
            token = _rollout.set(settings.get("rollout_id", self.kwargs.get("rollout_id")))
            try:
                return await super().acall(*items, **settings)
            finally:
                _rollout.reset(token)

    return EngineLM


def turn_off_caches() -> None:
    """Turn off dspy's caches, because the parent caches."""
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)


def redirect_models(replacement: "Callable[[str], Any]") -> None:
    """Redirect every `dspy.LM` that a program creates to the parent's `replacement(model string)`.

    Keys in the program are not used: the parent has its own for the provider or the address
    (`api_base`).
    """
    before, before_async, model_named = dspy.LM.__call__, dspy.LM.acall, cache(replacement)

    def resolve(lm: Any, settings: "dict[str, Any]") -> "tuple[Any, dict[str, Any]]":
        base = lm.kwargs.get("api_base") or lm.kwargs.get("base_url")
        name = f"{base}#{lm.model.partition('/')[2] or lm.model}" if base else lm.model
        return model_named(name), {
            key: value for key, value in {**lm.kwargs, **settings}.items() if key in _LM_SETTINGS
        }

    @wraps(before)
    def call(lm: Any, *items: Any, messages: Any = None, **settings: Any) -> Any:
        if type(lm) is not dspy.LM:
            return before(lm, *items, messages=messages, **settings)
        model, options = resolve(lm, settings)
        return model(*items, messages=messages, **options)

    @wraps(before_async)
    async def acall(lm: Any, *items: Any, messages: Any = None, **settings: Any) -> Any:
        if type(lm) is not dspy.LM:
            return await before_async(lm, *items, messages=messages, **settings)
        model, options = resolve(lm, settings)
        return await model.acall(*items, messages=messages, **options)

    dspy.LM.__call__, dspy.LM.acall = call, acall


def trace_modules() -> None:
    """Report every module that runs to the trail of the current call (the setting "dspex_trail").

    dspy's callbacks would do the same but cost 60 us per module. Patching is safe, because this
    process serves only its parent.
    """
    before, before_async = dspy.Module.__call__, dspy.Module.acall

    @wraps(before)
    def call(module: Any, /, *args: Any, **inputs: Any) -> Any:
        trail = setting("dspex_trail")
        frame = None if trail is None else trail.enter(module, inputs)
        if frame is None:
            return before(module, *args, **inputs)
        try:
            outputs = before(module, *args, **inputs)
        except BaseException as error:
            trail.leave(frame, None, error)
            raise
        trail.leave(frame, outputs, None)
        return outputs

    @wraps(before_async)
    async def acall(module: Any, /, *args: Any, **inputs: Any) -> Any:
        trail = setting("dspex_trail")
        frame = None if trail is None else trail.enter(module, inputs)
        if frame is None:
            return await before_async(module, *args, **inputs)
        try:
            outputs = await before_async(module, *args, **inputs)
        except BaseException as error:
            trail.leave(frame, None, error)
            raise
        trail.leave(frame, outputs, None)
        return outputs

    dspy.Module.__call__, dspy.Module.acall = call, acall


def saved_state(program: Any) -> "dict[str, Any]":
    """Return what `program.save("file.json")` writes: the state and dependency versions."""
    from pydantic_core import to_jsonable_python

    state: dict[str, Any] = to_jsonable_python(program.dump_state(), fallback=str)
    return {**state, "metadata": {"dependency_versions": get_dependency_versions()}}


def setting(name: str) -> Any:
    """Return one of dspy's current settings or None. Threads that dspy starts inherit them."""
    return dspy.settings.get(name)


def satisfies(spec: str) -> bool:
    """Whether the installed version satisfies "3.4.1", "==3.4.*" or an empty requirement."""
    version = spec.removeprefix("==").strip()
    return (
        not version
        or version == VERSION
        or (version.endswith(".*") and VERSION.startswith(version[:-1]))
    )
