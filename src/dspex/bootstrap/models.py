"""Models with the API keys of the server or of a workspace."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from dspex.bootstrap.keys import stored_keys
from dspex.clock import Clock
from dspex.errors import ConfigurationError, ModelError, StorageError
from dspex.execution.clients import Capability, Emit, LanguageModel, Request, Response, ask
from dspex.execution.clients.address import without_credentials
from dspex.execution.clients.embedder import Embedder, EmbeddingKind, Embeddings
from dspex.execution.clients.transport import SharedTransport
from dspex.execution.clients.wrapper import Wrapper
from dspex.execution.context import RunContext
from dspex.operations.framework.access import DEFAULT_WORKSPACE
from dspex.operations.framework.store import Store
from dspex.operations.tenancy.reach import NOT_ALLOWED, is_allowed, is_restricted_model
from dspex.operations.tenancy.vault import Vault
from dspex.session import ModelResolver, key_of
from dspex.settings import Secret, Settings

FRESH_NS: Final = 1_000_000_000
MAX_CACHED: Final = 256


def hosts_of(settings: Settings) -> frozenset[str]:
    """Return the hosts where every workspace may use models by URL."""
    return frozenset(
        name.strip().lower() for name in settings.model_hosts.split(",") if name.strip()
    )


@dataclass(slots=True)
class WorkspaceModels:
    """Resolves model strings for a workspace: with its own key, else with the server's.

    A model that a program names by URL never gets the server's key, because anyone may run that
    URL. Only hosts that the settings allow are called, also for self-hosted models
    (`ollama/NAME`); model files belong to the operator. The named models of the settings are the
    operator's too: every workspace may use them, with the server's keys.
    """

    server: ModelResolver
    own: ModelResolver

    def __call__(self, text: str) -> LanguageModel:
        """Return the model that `text` names; see `ModelResolver`.

        Raises:
            ConfigurationError: this workspace may not choose it, or see `ModelResolver`.
        """
        resolver = self._resolver(text, self.server.settings.model)
        model = resolver(text)
        return HiddenAddressModel(model) if self._is_hidden(text, resolver) else model

    def embedder(self, text: str) -> Embedder:
        """Return the embedder that `text` names, under the same rules.

        Raises:
            ConfigurationError: this workspace may not choose it, or see `ModelResolver.embedder`.
        """
        resolver = self._resolver(text, self.server.settings.embedder)
        embedder = resolver.embedder(text)
        return HiddenAddressEmbedder(embedder) if self._is_hidden(text, resolver) else embedder

    def _resolver(self, text: str, default: str | None) -> ModelResolver:
        """Return the resolver for a string; `default` is the one in the settings."""
        name = key_of(text)
        is_custom = is_restricted_model(text) and text != default
        if is_custom and not is_allowed(text, hosts_of(self.server.settings)):
            raise ConfigurationError(f"the model {without_credentials(text)!r} {NOT_ALLOWED}")
        is_own = is_custom or (name is not None and name in self.own.settings.keys)
        return self.own if is_own else self.server

    def _is_hidden(self, text: str, resolver: ModelResolver) -> bool:
        is_named = text in self.server.settings.models
        return (is_named or is_restricted_model(text)) and resolver is self.server


class HiddenAddressModel(Wrapper):
    """The model of the settings for other workspaces; their traces do not contain its address."""

    async def answer(self, request: Request, emit: Emit | None) -> Response:
        """Answer `request` without the model's identity and its route."""
        try:
            response = await ask(self.model, request, emit)
        except ModelError as error:
            error.route = None
            raise
        return msgspec.structs.replace(response, identity=None, route=None)


class HiddenAddressEmbedder:
    """The embedder of the settings for other workspaces, booked without its address."""

    def __init__(self, embedder: Embedder) -> None:
        self.name = embedder.name
        self._embedder = embedder

    @property
    def dimensions(self) -> int | None:
        """Return the number of dimensions, None if it is not known yet."""
        return self._embedder.dimensions

    @property
    def fingerprint(self) -> str:
        """Return the fingerprint of the vectors."""
        return self._embedder.fingerprint

    async def embed(self, texts: Sequence[str], kind: EmbeddingKind = "document") -> Embeddings:
        """Return a vector for each text; see `Embedder.embed`."""
        embeddings = await self._embedder.embed(texts, kind)
        return msgspec.structs.replace(embeddings, model=self.name)

    async def aclose(self) -> None:
        """Close the embedder."""
        await self._embedder.aclose()


@dataclass(slots=True)
class _CachedModels:
    models: WorkspaceModels
    read_ns: int


class MissingKeyModel:
    """Replaces a model whose key was revoked: only programs that call it fail."""

    capabilities: frozenset[Capability] = frozenset()

    def __init__(self, name: str, error: ConfigurationError) -> None:
        self.name = name
        self._error = error

    async def complete(self, request: Request) -> Response:
        """Raise the error that names the missing key."""
        raise ConfigurationError(self._error.message)

    async def aclose(self) -> None:
        """Do nothing: no connection is open."""


def _resolve_or_fail_later(models: Callable[[str], LanguageModel], text: str) -> LanguageModel:
    try:
        return models(text)
    except ConfigurationError as error:
        return MissingKeyModel(without_credentials(text), error)


class KeyedModels:
    """Provides each run with the models of its workspace. Owned by one event loop.

    Secrets are read when something runs, at most once a second per workspace, so a rotated or
    revoked key takes effect within a second. Running calls keep their key. While the database is
    away, the last known keys stay valid.
    """

    def __init__(
        self,
        store: Store,
        vault: Vault,
        *,
        resolver: ModelResolver,
        clock: Clock,
        say: Callable[[str], None],
    ) -> None:
        """Take the collaborators; keys in the settings of `resolver` override stored ones."""
        self._store = store
        self._vault = vault
        self._resolver = resolver
        self._settings: Settings = resolver.settings
        self._clock = clock
        self._say = say
        self._messages: set[str] = set()
        self._default_model: LanguageModel | None = None
        self._read_ns = 0
        self._cache: OrderedDict[str, _CachedModels] = OrderedDict()
        # for all workspaces, so that evicted models hold no connections
        self._transport = SharedTransport(quotes_errors=False)

    async def start(self) -> LanguageModel | None:
        """Read the secrets of the server, and return the model of the settings.

        Raises:
            ConfigurationError: the model is invalid, or its key is missing.
        """
        await self._refresh_server()
        self._default_model = (
            None if self._settings.model is None else self._resolver(self._settings.model)
        )
        return self._default_model

    async def context_for(self, workspace: str, context: RunContext) -> RunContext:
        """Return `context` with the current models of the workspace.

        Raises:
            StorageError: the secrets of the workspace cannot be read for the first time.
        """
        await self._refresh_server()
        models: ModelResolver | WorkspaceModels = self._resolver
        if workspace != DEFAULT_WORKSPACE:
            models = await self._workspace_models(workspace)
        model = context.model
        if model is not None and model is self._default_model and self._settings.model is not None:
            model = _resolve_or_fail_later(models, self._settings.model)
        if model is context.model and models is context.models:
            return context
        return msgspec.structs.replace(
            context, model=model, models=models, embedders=models.embedder
        )

    async def aclose(self) -> None:
        """Close the connections of all models."""
        await self._resolver.aclose()
        await self._transport.end()

    async def _refresh_server(self) -> None:
        now = self._clock.monotonic_ns()
        if self._read_ns and now - self._read_ns < FRESH_NS:
            return
        is_first, self._read_ns = not self._read_ns, now
        try:
            keys = await self._read(DEFAULT_WORKSPACE)
        except StorageError:
            if is_first:
                raise
            return
        self._resolver.rekey({**keys, **self._settings.keys})

    async def _workspace_models(self, workspace: str) -> WorkspaceModels:
        now = self._clock.monotonic_ns()
        cached = self._cache.get(workspace)
        if cached is not None:
            self._cache.move_to_end(workspace)
            if now - cached.read_ns < FRESH_NS:
                return cached.models
            cached.read_ns = now
        try:
            keys = await self._read(workspace)
        except StorageError:
            if cached is None:
                raise
            return cached.models
        cached = self._cache.get(workspace) or self._add_workspace(workspace, now)
        cached.models.own.rekey(keys)
        return cached.models

    def _add_workspace(self, workspace: str, now: int) -> _CachedModels:
        workspace_models = ModelResolver(
            replace(self._settings, keys={}, model_url=None, embedder_url=None),
            transport=self._transport,
        )
        cached = self._cache[workspace] = _CachedModels(
            WorkspaceModels(self._resolver, workspace_models), now
        )
        while len(self._cache) > MAX_CACHED:
            self._cache.popitem(last=False)
        return cached

    async def _read(self, workspace: str) -> dict[str, Secret]:
        return await stored_keys(self._store, self._vault, workspace=workspace, say=self._say_once)

    def _say_once(self, text: str) -> None:
        if text not in self._messages and len(self._messages) < MAX_CACHED:
            self._messages.add(text)
            self._say(text)
