"""Configuration by users: `configure()` for the process, `context()` for a block, model strings."""

import importlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from dspex.error_text import shorten, suggest
from dspex.errors import ConfigurationError
from dspex.execution.adapters import Adapter
from dspex.execution.adapters.registry import find_adapter
from dspex.execution.clients import Budget, LanguageModel
from dspex.execution.clients.address import (
    ServerAddress,
    credentials_of,
    is_url,
    without_credentials,
)
from dspex.execution.clients.embedder import Embedder
from dspex.execution.clients.providers import OPENAI_COMPATIBLE, PROVIDERS
from dspex.execution.clients.transport import SharedTransport
from dspex.execution.context import Cancellation, RunContext, current, update_default, use_context
from dspex.settings import Secret, Settings, read_settings
from dspex.telemetry import Observer

MAX_CACHED = 256  # models at servers
FORMS = (
    "'local/gemma3-270m', a path to a .gguf file, 'openai/gpt-4o-mini' (or another provider: "
    f"{', '.join(PROVIDERS)}), or 'http://host/v1#name' for any OpenAI-compatible server"
)


@dataclass(slots=True)
class ModelResolver:
    """Resolves model strings; equal strings give the same model.

    The key comes from the environment variable of the provider. A server with a URL gets the
    credentials in the URL, or else `DSPEX_API_KEY`. Models at servers share the connections of
    `transport`, so unused models hold none; the last `MAX_CACHED` of them are cached.
    """

    settings: Settings
    transport: SharedTransport = field(default_factory=SharedTransport)
    _models: OrderedDict[str, LanguageModel] = field(default_factory=OrderedDict)
    _local: dict[str, LanguageModel] = field(default_factory=dict)

    def __call__(self, text: str) -> LanguageModel:
        """Return the model of a model string.

        Raises:
            ConfigurationError: the string is invalid, its key is not set, or a package is missing.
        """
        model = self._models.get(text) or self._local.get(text)
        if model is None:
            model = self._create(text)
            if is_local(text):
                self._local[text] = model
                return model
            self._models[text] = model
            while len(self._models) > MAX_CACHED:
                self._models.popitem(last=False)
        elif text in self._models:
            self._models.move_to_end(text)
        return model

    async def aclose(self) -> None:
        """Close the models of this resolver and their connections on the running loop."""
        for model in self._local.values():
            await model.aclose()
        await self.transport.end()

    def rekey(self, keys: Mapping[str, Secret]) -> None:
        """Use these keys for models resolved from now on; models in use keep their key."""
        old_keys = self.settings.keys
        if keys == old_keys:
            return
        changed = {name for name in {*old_keys, *keys} if old_keys.get(name) != keys.get(name)}
        for text in [text for text in self._models if key_of(text) in changed]:
            del self._models[text]
        self.settings = replace(self.settings, keys=keys)

    def _create(self, text: str) -> LanguageModel:
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

        base, _, name = self._with_credentials(text).partition("#")
        key = None if credentials_of(base) else self.settings.keys.get("DSPEX_API_KEY")
        secret = key.reveal() if key else None
        return Retrying(OpenAIModel(name, base_url=base, api_key=secret, transport=self.transport))

    def _with_credentials(self, text: str) -> str:
        """Return the URL with credentials, which `Settings.model` lacks; or `text`."""
        secret = self.settings.model_url
        if secret is None or text != self.settings.model:
            return text
        url = secret.reveal()
        return url if without_credentials(url) == text else text

    def _by_provider(self, provider: str, name: str) -> LanguageModel:
        from dspex.execution.clients import Retrying

        entry = PROVIDERS[provider]
        key = self.settings.keys.get(entry.key) if entry.key else None
        if entry.key and key is None:
            raise ConfigurationError(
                f"the model {provider}/{name} needs an API key: set {entry.key} in the environment"
            )
        secret = key.reveal() if key else None
        module, _, class_name = entry.client.partition(":")
        client = getattr(importlib.import_module(f"dspex.execution.clients.{module}"), class_name)
        names = {"name": f"{provider}/{name}"} if entry.client == OPENAI_COMPATIBLE else {}
        return Retrying(
            client(
                name,
                base_url=entry.base_url,
                api_key=secret,
                transport=self.transport,
                **names,
            )
        )


def check_model(text: str) -> None:
    """Check the form of a model string, but not whether its key and packages are available.

    Raises:
        ConfigurationError: the string is invalid.
    """
    provider, _, name = text.partition("/")
    if is_url(text):
        ServerAddress.of(text.partition("#")[0])
        if not text.partition("#")[2]:
            url = without_credentials(text)
            raise ConfigurationError(f"{url!r} does not name a model: write {url}#name")
    elif provider == "local" and name:
        from dspex.execution.clients.local import check_packaged

        check_packaged(name)
    elif not text.endswith(".gguf") and not (provider in PROVIDERS and name):
        providers = ["local", *PROVIDERS]
        hint = f" Write {provider}/NAME." if provider in providers else suggest(provider, providers)
        raise ConfigurationError(f"unknown model {shorten(text)}.{hint} A model is {FORMS}")


def is_local(text: str) -> bool:
    """Return whether a model string names a model in this process: a file or a package."""
    return not is_url(text) and (text.endswith(".gguf") or text.startswith("local/"))


def key_of(text: str) -> str | None:
    """Return the environment variable of the key that is sent to the model, or None."""
    if is_url(text):
        return "DSPEX_API_KEY"
    provider, _, name = text.partition("/")
    return (
        PROVIDERS[provider].key
        if provider in PROVIDERS and name and not text.endswith(".gguf")
        else None
    )


def configure(
    *,
    model: LanguageModel | str | None = None,
    adapter: Adapter | str | None = None,
    observer: Observer | None = None,
    seed: int | None = None,
    store: str | Path | Literal[False] | None = None,
) -> None:
    """Set the defaults of all calls in this process; omitted arguments stay unchanged.

    Args:
        model: a model or a model string.
        adapter: "chat", "json", "tools" or an adapter.
        observer: receives spans and events.
        seed: for models that accept a seed.
        store: a folder such as ".dspex" that records every program run from now on, as the command
            line and the server do; False stops it.

    Raises:
        ConfigurationError: the model or adapter is unknown, or a key is missing.
        StorageError: the store cannot be used.
    """
    prepare()
    change = _changes(current_models(), model=model, adapter=adapter, observer=observer, seed=seed)
    if store is not None:
        importlib.import_module("dspex.bootstrap.process_store").record_process(store)
    update_default(lambda default: replace(default, **change))


@contextmanager
def context(
    *,
    model: LanguageModel | str | None = None,
    adapter: Adapter | str | None = None,
    observer: Observer | None = None,
    seed: int | None = None,
    budget: Budget | None = None,
    timeout: float | None = None,
    cancellation: Cancellation | None = None,
) -> Iterator[RunContext]:
    """Set the defaults of calls inside a block, in this thread or task and those it starts.

    Args:
        model: a model or a model string.
        adapter: "chat", "json", "tools" or an adapter.
        observer: receives spans and events.
        seed: for models that accept a seed.
        budget: what all calls inside may spend together.
        timeout: seconds for everything inside.
        cancellation: cancels everything inside.

    Raises:
        ConfigurationError: the model or adapter is unknown, or a key is missing.
    """
    prepare()
    change = _changes(current_models(), model=model, adapter=adapter, observer=observer, seed=seed)
    if budget is not None:
        change["budget"] = budget
    new_context = replace(current(), **change)
    if cancellation is not None:
        new_context = new_context.cancelled_by(cancellation)
    with use_context(new_context if timeout is None else new_context.within(timeout)) as inside:
        yield inside


def prepare() -> None:
    """Install the resolvers of models and embedders; settings are read when a model is resolved."""
    update_default(
        lambda default: (
            default
            if default.models
            else replace(default, models=_LazyResolver(), embedders=find_embedder)
        )
    )


@lru_cache(maxsize=MAX_CACHED)
def find_embedder(name: str) -> Embedder:
    """Return the embedder with a name: "offline" or "hash".

    Raises:
        ConfigurationError: the name is unknown.
    """
    method, _, dimensions = name.partition("/")
    if method == "hash" and (not dimensions or dimensions.isdecimal()):
        from dspex.execution.clients.hashing_embedder import HashingEmbedder

        return HashingEmbedder(int(dimensions or 64))
    raise ConfigurationError(f"unknown embedder {shorten(name)}; embedders are: offline, hash")


class _LazyResolver:
    """A resolver that reads the settings at its first call."""

    __slots__ = ("_resolver",)

    def __init__(self) -> None:
        self._resolver: ModelResolver | None = None

    def __call__(self, text: str) -> LanguageModel:
        if self._resolver is None:
            self._resolver = ModelResolver(read_settings())
        return self._resolver(text)


def current_models() -> Any:
    """Return the current resolver of model strings."""
    return current().models or _LazyResolver()


def _changes(
    models: Any,
    *,
    model: Any,
    adapter: Any,
    observer: Any,
    seed: int | None,
) -> dict[str, Any]:
    values = {
        "model": models(model) if isinstance(model, str) else model,
        "adapter": find_adapter(adapter),
        "observer": observer,
        "seed": seed,
    }
    return {name: value for name, value in values.items() if value is not None}
