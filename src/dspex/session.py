"""Configuration by users: `configure()` for the process, `context()` for a block, model strings."""

import importlib
from collections import OrderedDict
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import msgspec

from dspex.argument_values import Positive
from dspex.arguments import checks_values
from dspex.error_text import shorten, suggest
from dspex.errors import ConfigurationError
from dspex.execution.adapters import Adapter
from dspex.execution.adapters.registry import find_adapter
from dspex.execution.clients import Budget, LanguageModel, Retrying
from dspex.execution.clients.address import (
    ServerAddress,
    credentials_of,
    is_url,
    without_credentials,
)
from dspex.execution.clients.embedder import Embedder
from dspex.execution.clients.providers import OPENAI_COMPATIBLE, OPENAI_EMBEDDER, PROVIDERS
from dspex.execution.clients.transport import SharedTransport
from dspex.execution.context import Cancellation, RunContext, current, update_default, use_context
from dspex.execution.question import AnswerCallback, answers_in_order
from dspex.language.records.canonical import json_bytes
from dspex.settings import Secret, Settings, read_settings
from dspex.telemetry import Observer

if TYPE_CHECKING:
    from dspex.execution.clients.redis_responses import RedisResponses

MAX_CACHED = 256  # models at servers
FORMS = (
    "'local/gemma3-270m', a path to a .gguf file, 'openai/gpt-4o-mini' (or another provider: "
    f"{', '.join(PROVIDERS)}), or 'http://host/v1#name' for any OpenAI-compatible server"
)
EMBEDDER_FORMS = (
    "'offline' (in this process), 'hash' (for tests), a path to a .gguf file, "
    "'openai/text-embedding-3-small' (or another provider), or 'http://host/v1#name'; servers take "
    "'?dimensions=N' after the name"
)


@dataclass(slots=True)
class ModelResolver:
    """Resolves the strings of models and embedders; equal strings give the same object.

    The key comes from the environment variable of the provider. A server with a URL gets the
    credentials in the URL, or else `DSPEX_API_KEY`. Models at servers share the connections of
    `transport`, so unused models hold none; the last `MAX_CACHED` of them are cached.
    """

    settings: Settings
    transport: SharedTransport = field(default_factory=SharedTransport)
    _models: OrderedDict[str, LanguageModel] = field(default_factory=OrderedDict)
    _local: dict[str, LanguageModel] = field(default_factory=dict)
    _embedders: OrderedDict[str, Embedder] = field(default_factory=OrderedDict)
    _named: dict[str, LanguageModel] = field(default_factory=dict)
    _budgets: dict[str, Budget] = field(default_factory=dict)
    _redis: "RedisResponses | None" = None

    def __call__(self, text: str) -> LanguageModel:
        """Return the model of a model string.

        Raises:
            ConfigurationError: the string is invalid, its key is not set, or a package is missing.
        """
        model = self._models.get(text) or self._local.get(text) or self._named.get(text)
        if model is None:
            if text in self.settings.models:
                return self._create_named(text)
            model = self.create(text)
            if is_local(text):
                self._local[text] = model
                return model
            self._models[text] = model
            while len(self._models) > MAX_CACHED:
                self._models.popitem(last=False)
        elif text in self._models:
            self._models.move_to_end(text)
        return model

    def embedder(self, text: str) -> Embedder:
        """Return the embedder of a string; see `check_embedder`.

        Raises:
            ConfigurationError: the string is invalid, its key is not set, or a package is missing.
        """
        embedder = self._embedders.pop(text, None) or self._create_embedder(text)
        self._embedders[text] = embedder
        while len(self._embedders) > MAX_CACHED:
            self._embedders.popitem(last=False)
        return embedder

    async def aclose(self) -> None:
        """Close the models of this resolver and their connections on the running loop."""
        for model in self._local.values():
            await model.aclose()
        for embedder in self._embedders.values():
            await embedder.aclose()
        if self._redis is not None:
            await self._redis.aclose()
        await self.transport.end()

    def rekey(self, keys: Mapping[str, Secret]) -> None:
        """Use these keys for models resolved from now on; models in use keep their key."""
        old_keys = self.settings.keys
        if keys == old_keys:
            return
        changed = {name for name in {*old_keys, *keys} if old_keys.get(name) != keys.get(name)}
        for resolved in (self._models, self._embedders):
            for text in [text for text in resolved if key_of(text) in changed]:
                del resolved[text]
        self._named.clear()  # their budgets stay
        self.settings = replace(self.settings, keys=keys)

    def _create_named(self, name: str) -> LanguageModel:
        from dspex.execution.clients.named_model import ModelTable, build_model

        check_models(self.settings.models)
        table = ModelTable(**self.settings.models[name])
        if table.budget and name not in self._budgets:
            self._budgets[name] = Budget(**table.budget)
        resolve = partial(self._part, extra_body=table.extra_body)
        model = build_model(
            name, table, resolve=resolve, budget=self._budgets.get(name), redis=self._responses
        )
        self._named[name] = model
        return model

    def _responses(self) -> "RedisResponses":
        """Return the responses in Redis, which all models of this resolver share."""
        if self._redis is None:
            from dspex.execution.clients.redis_responses import RedisResponses

            url = self.settings.redis_url
            if url is None:
                raise ConfigurationError(
                    'cache = "redis" needs a server: set redis_url (DSPEX_REDIS_URL); a file of '
                    'this name is "./redis"'
                )
            self._redis = RedisResponses(url.reveal())
        return self._redis

    def _part(self, text: str, *, extra_body: Mapping[str, Any]) -> LanguageModel:
        """Return what a table refers to, with its extra body if that is a model at a server."""
        if not extra_body or text in self.settings.models or is_local(text):
            return self(text)
        from dspex.execution.clients.named_model import ExtraBody

        inside = replace(self, transport=ExtraBody(self.transport, extra_body))
        model: Any = inside.create(text)
        revision = json_bytes(dict(extra_body)).decode()  # caches must tell it from the bare model
        for part in (model, model.model):
            part.identity = msgspec.structs.replace(part.identity, revision=revision)
        return cast("LanguageModel", model)

    def create(self, text: str) -> LanguageModel:
        """Create the model of a model string; see `__call__`."""
        check_model(text, self.settings.models)
        provider, _, name = text.partition("/")
        media = self.settings.media_models.get(without_credentials(text))
        if is_url(text):
            return Retrying(self._by_url(text, OPENAI_COMPATIBLE, media=media))
        if text.endswith(".gguf"):
            from dspex.execution.clients import LocalModel

            return LocalModel(Path(text).expanduser())
        if provider == "local":
            from dspex.execution.clients import packaged_model

            return packaged_model(name, self.settings.cache_dir, threads=self.settings.threads)
        return Retrying(self._by_provider(text, PROVIDERS[provider].client, media=media))

    def _create_embedder(self, text: str) -> Embedder:
        from dspex.execution.clients.wrapped_embedder import WrappedEmbedder

        check_embedder(text)
        base, _, dimensions = text.partition("?dimensions=")
        method, _, name = base.partition("/")
        more = {"dimensions": int(dimensions)} if dimensions else {}
        embedder: Embedder
        if method == "offline":
            embedder = _load_client("offline_embedder:OfflineEmbedder")()
        elif method == "hash":
            embedder = _load_client("hashing_embedder:HashingEmbedder")(int(name or 64))
        elif base.endswith(".gguf"):
            client = _load_client("local_embedder:LocalEmbedder")
            embedder = client(Path(base).expanduser(), threads=self.settings.threads)
        elif is_url(base):
            embedder = WrappedEmbedder(self._by_url(base, OPENAI_EMBEDDER, **more), Retrying)
        else:
            place = PROVIDERS[method].embedder or ""
            embedder = WrappedEmbedder(self._by_provider(base, place, **more), Retrying)
        return embedder

    def _by_url(self, text: str, client: str, **more: Any) -> Any:
        base, _, name = self._with_credentials(text).partition("#")
        key = None if credentials_of(base) else self.settings.keys.get("DSPEX_API_KEY")
        secret = key.reveal() if key else None
        return _load_client(client)(
            name, base_url=base, api_key=secret, transport=self.transport, **more
        )

    def _with_credentials(self, text: str) -> str:
        """Return the URL with credentials, which the settings lack; or `text`."""
        for secret in (self.settings.model_url, self.settings.embedder_url):
            url = "" if secret is None else secret.reveal().partition("?dimensions=")[0]
            if url and without_credentials(url) == text:
                return url
        return text

    def _by_provider(self, text: str, client: str, **more: Any) -> Any:
        provider, _, name = text.partition("/")
        entry = PROVIDERS[provider]
        key = self.settings.keys.get(entry.key) if entry.key else None
        if entry.key and key is None:
            raise ConfigurationError(
                f"the model {text} needs an API key: set {entry.key} in the environment"
            )
        if client in {OPENAI_COMPATIBLE, OPENAI_EMBEDDER}:
            more["name"] = text
        return _load_client(client)(
            name,
            base_url=entry.base_url,
            api_key=key.reveal() if key else None,
            transport=self.transport,
            **more,
        )


def _load_client(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(f"dspex.execution.clients.{module}"), name)


def check_models(models: Mapping[str, Mapping[str, Any]]) -> None:
    """Check what the tables [models.NAME] refer to.

    Raises:
        ConfigurationError: a model string is invalid, or tables refer to each other in a circle.
    """
    for name in models:
        _check_parts(models, (name,))


def _check_parts(models: Mapping[str, Mapping[str, Any]], path: tuple[str, ...]) -> None:
    table = models[path[-1]]
    for field_name in ("model", "models", "fallback"):
        parts = table.get(field_name, ())
        for text in (parts,) if isinstance(parts, str) else parts:
            place = f"models.{path[-1]}.{field_name}"
            if text in path:
                circle = " -> ".join((*path, text))
                raise ConfigurationError(f"{place}: the tables refer in a circle: {circle}")
            if text in models:
                _check_parts(models, (*path, text))
                continue
            try:
                check_model(text, models)
            except ConfigurationError as error:
                raise ConfigurationError(f"{place}: {error.message}") from None
            if table.get("extra_body") and is_local(text):
                raise ConfigurationError(f"models.{path[-1]}.extra_body: {text!r} has no server")


def check_model(text: str, names: Container[str] = ()) -> None:
    """Check the form of a model string, but not whether its key and packages are available.

    `names` are those of the tables [models.NAME].

    Raises:
        ConfigurationError: the string is invalid.
    """
    if text in names:
        return
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


def check_embedder(text: str) -> None:
    """Check the form of an embedder string, but not whether its key and packages are available.

    Raises:
        ConfigurationError: the string is invalid.
    """
    base, mark, dimensions = text.partition("?dimensions=")
    method, _, name = base.partition("/")
    is_server = is_url(base) or (method in PROVIDERS and bool(name))
    if is_url(base):
        check_model(base)
    is_valid = (
        is_server
        or base == "offline"
        or base.endswith(".gguf")
        or (method == "hash" and (not name or name.isdecimal()))
    )
    if not is_valid or (mark and not (is_server and dimensions.isdecimal())):
        hint = suggest(method, ["offline", "hash", *PROVIDERS])
        raise ConfigurationError(
            f"unknown embedder {shorten(without_credentials(text))}.{hint} An embedder is "
            f"{EMBEDDER_FORMS}"
        )
    if method in PROVIDERS and name and PROVIDERS[method].embedder is None:
        raise ConfigurationError(f"{method!r} has no embeddings; an embedder is {EMBEDDER_FORMS}")


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


@checks_values
def configure(
    *,
    model: LanguageModel | str | None = None,
    embedder: Embedder | str | None = None,
    adapter: Adapter | str | None = None,
    observer: Observer | None = None,
    seed: int | None = None,
    store: str | Path | Literal[False] | None = None,
) -> None:
    """Set the defaults of all calls in this process; omitted arguments stay unchanged.

    Args:
        model: a model or a model string.
        embedder: an embedder or its string, for collections that name none; "offline" by default.
        adapter: "chat", "json", "tools", "xml" or an adapter.
        observer: receives spans and events.
        seed: for models that accept a seed.
        store: a folder such as ".dspex" that records every program run from now on, as the command
            line and the server do; False stops it.

    Raises:
        ConfigurationError: a model, embedder or adapter is unknown, or a key is missing.
        StorageError: the store cannot be used.
    """
    prepare()
    change = _changes(model=model, embedder=embedder, adapter=adapter, observer=observer, seed=seed)
    if store is not None:
        importlib.import_module("dspex.bootstrap.process_store").record_process(store)
    update_default(lambda default: msgspec.structs.replace(default, **change))


@contextmanager
@checks_values
def context(
    *,
    model: LanguageModel | str | None = None,
    embedder: Embedder | str | None = None,
    adapter: Adapter | str | None = None,
    observer: Observer | None = None,
    seed: int | None = None,
    budget: Budget | None = None,
    timeout: Positive | None = None,
    cancellation: Cancellation | None = None,
    answer: AnswerCallback | Sequence[Mapping[str, Any]] | None = None,
) -> Iterator[RunContext]:
    """Set the defaults of calls inside a block, in this thread or task and those it starts.

    Args:
        model: a model or a model string.
        embedder: an embedder or its string, for collections that name none; "offline" by default.
        adapter: "chat", "json", "tools", "xml" or an adapter.
        observer: receives spans and events.
        seed: for models that accept a seed.
        budget: what all calls inside may spend together.
        timeout: seconds for everything inside.
        cancellation: cancels everything inside.
        answer: answers the questions of `ask`: a function of the question, sync or async, or the
            answers in the order of the questions.

    Raises:
        ConfigurationError: a model, embedder or adapter is unknown, or a key is missing.
        DefinitionError: `answer` is neither a function nor a list.
    """
    prepare()
    change = _changes(model=model, embedder=embedder, adapter=adapter, observer=observer, seed=seed)
    if budget is not None:
        change["budget"] = budget
    if answer is not None:
        change["answer"] = answer if callable(answer) else answers_in_order(answer)
    new_context = msgspec.structs.replace(current(), **change)
    if cancellation is not None:
        new_context = new_context.cancelled_by(cancellation)
    with use_context(new_context if timeout is None else new_context.within(timeout)) as inside:
        yield inside


def prepare() -> None:
    """Install the resolver of models and embedders; the settings are read when it is used."""
    resolver = _LazyResolver()
    update_default(
        lambda default: (
            default
            if default.models
            else msgspec.structs.replace(default, models=resolver, embedders=resolver.embedder)
        )
    )


class _LazyResolver:
    """A resolver that reads the settings at its first call."""

    __slots__ = ("_resolver",)

    def __init__(self) -> None:
        self._resolver: ModelResolver | None = None

    def __call__(self, text: str) -> LanguageModel:
        return self._load()(text)

    def embedder(self, text: str) -> Embedder:
        return self._load().embedder(text)

    def _load(self) -> ModelResolver:
        if self._resolver is None:
            self._resolver = ModelResolver(read_settings())
        return self._resolver


def current_models() -> Any:
    """Return the current resolver of model strings."""
    return current().models or _LazyResolver()


def current_embedders() -> Callable[[str], Embedder]:
    """Return the current resolver of embedder strings."""
    return current().embedders or _LazyResolver().embedder


def _changes(
    *, model: Any, embedder: Any, adapter: Any, observer: Any, seed: int | None
) -> dict[str, Any]:
    values = {
        "model": current_models()(model) if isinstance(model, str) else model,
        "embedder": current_embedders()(embedder) if isinstance(embedder, str) else embedder,
        "adapter": find_adapter(adapter),
        "observer": observer,
        "seed": seed,
    }
    return {name: value for name, value in values.items() if value is not None}
