"""The one-line user API: `configure()` for the process, `context()` for a block; model strings and their keys."""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dspex.errors import ConfigurationError, shorten, suggest
from dspex.execution.adapters import Adapter
from dspex.execution.clients import Budget, LanguageModel
from dspex.execution.clients.address import ServerAddress, credentials_of, is_url, without_credentials
from dspex.execution.clients.providers import PROVIDERS
from dspex.execution.clients.transport import SharedTransport
from dspex.execution.context import RunContext, current, find_adapter, update_default, use_context
from dspex.settings import Secret, Settings, read_settings
from dspex.telemetry import Observer

REMEMBERED = 256  # models at servers
FORMS = (
    "'local/gemma3-270m', a path to a .gguf file, 'openai/gpt-4o-mini' (or another provider: "
    f"{', '.join(PROVIDERS)}), or 'http://host/v1#name' for any OpenAI-compatible server"
)


@dataclass(slots=True)
class ModelResolver:
    """Turns model strings into models; one string is one model, so that connections and weights are shared.

    A key is read from the environment variable of its provider; a server that is given by URL gets the credentials in
    that URL, else `DSPEX_API_KEY`. Models at servers share the connections of `transport`, so that one which nobody
    uses any more holds nothing; of these the last `REMEMBERED` are remembered.
    """

    settings: Settings
    transport: SharedTransport = field(default_factory=SharedTransport)
    _models: OrderedDict[str, LanguageModel] = field(default_factory=OrderedDict)
    _local: dict[str, LanguageModel] = field(default_factory=dict)

    def __call__(self, text: str) -> LanguageModel:
        """Return the model that `text` names.

        Raises:
            ConfigurationError: it names none, its key is not set, or what it needs is not installed.
        """
        model = self._models.get(text) or self._local.get(text)
        if model is None:
            model = self._make(text)
            if is_local(text):
                self._local[text] = model
                return model
            self._models[text] = model
            while len(self._models) > REMEMBERED:
                self._models.popitem(last=False)
        elif text in self._models:
            self._models.move_to_end(text)
        return model

    async def aclose(self) -> None:
        """Free what the models made here hold on the running loop, their connections too."""
        for model in self._local.values():
            await model.aclose()
        await self.transport.end()

    def rekey(self, keys: Mapping[str, Secret]) -> None:
        """Use these keys for all models that are resolved from now on; a model that is in use keeps the one it has."""
        before = self.settings.keys
        if keys == before:
            return
        changed = {name for name in {*before, *keys} if before.get(name) != keys.get(name)}
        for text in [text for text in self._models if key_of(text) in changed]:
            del self._models[text]
        self.settings = replace(self.settings, keys=keys)

    def _make(self, text: str) -> LanguageModel:
        check_model(text)
        provider, _, name = text.partition("/")
        if is_url(text):
            return self._by_url(text)
        if text.endswith(".gguf"):
            from dspex.execution.clients import LocalModel

            return LocalModel(Path(text).expanduser())
        if provider == "local":
            from dspex.execution.clients import packaged_model

            return packaged_model(name, self.settings.cache_dir, threads=self.settings.threads)
        return self._by_provider(provider, name)

    def _by_url(self, text: str) -> LanguageModel:
        from dspex.execution.clients import OpenAIModel, Retrying

        base, _, name = self._whole(text).partition("#")
        key = None if credentials_of(base) else self.settings.keys.get("DSPEX_API_KEY")
        secret = key.reveal() if key else None
        return Retrying(OpenAIModel(name, base_url=base, api_key=secret, transport=self.transport))

    def _whole(self, text: str) -> str:
        """Return the URL of the settings with its credentials, which `Settings.model` has not; any other as it is."""
        secret = self.settings.model_url
        if secret is None or text != self.settings.model:
            return text
        whole = secret.reveal()
        return whole if without_credentials(whole) == text else text

    def _by_provider(self, provider: str, name: str) -> LanguageModel:
        from dspex.execution.clients import OpenAIModel, Retrying

        base, variable = PROVIDERS[provider]
        key = self.settings.keys.get(variable) if variable else None
        if variable and key is None:
            raise ConfigurationError(f"the model {provider}/{name} needs an API key: set {variable} in the environment")
        secret = key.reveal() if key else None
        if provider == "anthropic":
            from dspex.execution.clients.anthropic import AnthropicModel

            return Retrying(AnthropicModel(name, base_url=base, api_key=secret, transport=self.transport))
        if provider == "gemini":
            from dspex.execution.clients.gemini import GeminiModel

            return Retrying(GeminiModel(name, base_url=base, api_key=secret, transport=self.transport))
        called = f"{provider}/{name}"
        return Retrying(OpenAIModel(name, base_url=base, api_key=secret, name=called, transport=self.transport))


def check_model(text: str) -> None:
    """Return where `text` has the form of a model string; whether its key and its packages are there is another matter.

    Raises:
        ConfigurationError: it has not.
    """
    provider, _, name = text.partition("/")
    if is_url(text):
        ServerAddress.of(text.partition("#")[0])
        if not text.partition("#")[2]:
            shown = without_credentials(text)
            raise ConfigurationError(f"{shown!r} does not say which model: write {shown}#name")
    elif provider == "local" and name:
        from dspex.execution.clients.local import check_packaged

        check_packaged(name)
    elif not text.endswith(".gguf") and not (provider in PROVIDERS and name):
        known = ["local", *PROVIDERS]
        hint = f" Write {provider}/NAME." if provider in known else suggest(provider, known)
        raise ConfigurationError(f"unknown model {shorten(text)}.{hint} A model is {FORMS}")


def is_local(text: str) -> bool:
    """Return whether a model string names a model in this process, by its file or as a package."""
    return not is_url(text) and (text.endswith(".gguf") or text.startswith("local/"))


def key_of(text: str) -> str | None:
    """Return the name of the key that the model behind a model string is sent, None where it is sent none."""
    if is_url(text):
        return "DSPEX_API_KEY"
    provider, _, name = text.partition("/")
    return PROVIDERS[provider][1] if provider in PROVIDERS and name and not text.endswith(".gguf") else None


def configure(
    *,
    model: LanguageModel | str | None = None,
    adapter: Adapter | str | None = None,
    observer: Observer | None = None,
    seed: int | None = None,
) -> None:
    """Set what all calls in this process use that say nothing else; what is not given stays as it was.

    Raises:
        ConfigurationError: the model or adapter is unknown, or a key is missing.
    """
    prepare()
    change = _changes(current_models(), model=model, adapter=adapter, observer=observer, seed=seed)
    update_default(lambda default: replace(default, **change))


@contextmanager
def context(
    *,
    model: LanguageModel | str | None = None,
    adapter: Adapter | str | None = None,
    observer: Observer | None = None,
    seed: int | None = None,
    budget: Budget | None = None,
    **limits: Any,  # noqa: ANN401  # named and checked below
) -> Iterator[RunContext]:
    """Set the same for a block, in this thread or task and those that it starts.

    Args:
        model: a model or a model string.
        adapter: "chat", "json", "tools" or an adapter.
        observer: hears of spans and events.
        seed: for models that take one.
        budget: what the calls inside may spend in all.
        limits: `timeout` (seconds from now that everything inside has), `cancellation` (a `Cancellation`).

    Raises:
        ConfigurationError: the model or adapter is unknown, a key is missing, or there is no such limit.
    """
    prepare()
    if unknown := limits.keys() - {"timeout", "cancellation"}:
        name = min(unknown)
        names = ["model", "adapter", "observer", "seed", "budget", "timeout", "cancellation"]
        raise ConfigurationError(f"context has no {name!r}.{suggest(name, names)} It takes: {', '.join(names)}")
    change = _changes(current_models(), model=model, adapter=adapter, observer=observer, seed=seed)
    if budget is not None:
        change["budget"] = budget
    if limits.get("cancellation") is not None:
        change |= {"cancellation": limits["cancellation"], "is_guarded": False}
    made = replace(current(), **change)
    with use_context(made if limits.get("timeout") is None else made.within(limits["timeout"])) as inside:
        yield inside


def prepare() -> None:
    """Make model strings known to this process. The settings are read at the first one, not now."""
    update_default(lambda default: default if default.models else replace(default, models=_Deferred()))


class _Deferred:
    """A resolver that reads the settings when it is first asked."""

    __slots__ = ("_resolver",)

    def __init__(self) -> None:
        self._resolver: ModelResolver | None = None

    def __call__(self, text: str) -> LanguageModel:
        if self._resolver is None:
            self._resolver = ModelResolver(read_settings())
        return self._resolver(text)


def current_models() -> Any:  # noqa: ANN401  # a callable from text to model
    """Return what resolves model strings here."""
    return current().models or _Deferred()


def _changes(models: Any, *, model: Any, adapter: Any, observer: Any, seed: int | None) -> dict[str, Any]:  # noqa: ANN401
    found = {
        "model": models(model) if isinstance(model, str) else model,
        "adapter": find_adapter(adapter),
        "observer": observer,
        "seed": seed,
    }
    return {name: value for name, value in found.items() if value is not None}
