"""Models under the keys of who runs: those of the server, and those that a workspace has of its own."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from dspex.bootstrap.keys import stored_keys
from dspex.clock import Clock
from dspex.errors import ConfigurationError, StorageError
from dspex.execution.clients import Capability, Emit, LanguageModel, Request, Response, ask
from dspex.execution.clients.address import without_credentials
from dspex.execution.clients.transport import SharedTransport
from dspex.execution.clients.wrapper import Wrapper
from dspex.execution.context import RunContext
from dspex.operations.resources import Store
from dspex.operations.resources.access import DEFAULT_WORKSPACE
from dspex.operations.resources.reach import NOT_ALLOWED, is_allowed, is_restricted_model
from dspex.operations.resources.vault import Vault
from dspex.session import ModelResolver, key_of
from dspex.settings import Secret, Settings

FRESH_NS: Final = 1_000_000_000
REMEMBERED: Final = 256


def hosts_of(settings: Settings) -> frozenset[str]:
    """Return the hosts at which every workspace may name models by URL."""
    return frozenset(name.strip().lower() for name in settings.model_hosts.split(",") if name.strip())


@dataclass(slots=True)
class WorkspaceModels:
    """Turns model strings into models for one workspace: under its own key where it has one, else the server's models.

    A server that a program names by URL is not sent the server's key: it may be anybody's. It is reached only where the
    settings allow its host, and so is a self-hosted one (`ollama/NAME`); files are the operator's.
    """

    server: ModelResolver
    own: ModelResolver

    def __call__(self, text: str) -> LanguageModel:
        """Return the model that `text` names; see `ModelResolver`.

        Raises:
            ConfigurationError: this workspace may not choose it, or see `ModelResolver`.
        """
        name = key_of(text)
        is_restricted = is_restricted_model(text)
        is_chosen = is_restricted and text != self.server.settings.model
        if is_chosen and not is_allowed(text, hosts_of(self.server.settings)):
            raise ConfigurationError(f"the model {without_credentials(text)!r} {NOT_ALLOWED}")
        if is_chosen or (name is not None and name in self.own.settings.keys):
            return self.own(text)
        model = self.server(text)
        return Unlocated(model) if is_restricted else model


class Unlocated(Wrapper):
    """The model of the settings, as other workspaces see it: their traces do not tell at which address it is."""

    async def answer(self, request: Request, emit: Emit | None) -> Response:
        """Answer `request` under the model's name alone."""
        return msgspec.structs.replace(await ask(self.model, request, emit), identity=None)


@dataclass(slots=True)
class _Known:
    models: WorkspaceModels
    read_ns: int


class KeylessModel:
    """Stands where a model's key was revoked: only a program that asks it fails."""

    capabilities: frozenset[Capability] = frozenset()

    def __init__(self, name: str, error: ConfigurationError) -> None:
        self.name = name
        self._error = error

    async def complete(self, request: Request) -> Response:
        """Say which key is missing."""
        raise ConfigurationError(self._error.message)

    async def aclose(self) -> None:
        """Hold nothing."""


def _resolved(models: Callable[[str], LanguageModel], text: str) -> LanguageModel:
    try:
        return models(text)
    except ConfigurationError as error:
        return KeylessModel(without_credentials(text), error)


class KeyedModels:
    """Gives each run the models of its workspace. Owned by one event loop.

    Secrets are read when something runs, at most once a second for a workspace, so that a rotated or revoked one is in
    effect a second later. A call under way ends under the key that it began with. While the database is away, the keys
    that were read last hold.
    """

    def __init__(
        self, store: Store, vault: Vault, *, resolver: ModelResolver, clock: Clock, say: Callable[[str], None]
    ) -> None:
        """Take the collaborators; the settings of `resolver` hold the keys of the environment, which come first."""
        self._store = store
        self._vault = vault
        self._resolver = resolver
        self._settings: Settings = resolver.settings
        self._clock = clock
        self._say = say
        self._said: set[str] = set()
        self._first: LanguageModel | None = None
        self._read_ns = 0
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._transport = SharedTransport(quotes_errors=False)  # of all workspaces: one that is forgotten holds nothing

    async def start(self) -> LanguageModel | None:
        """Read the server's own secrets, and return the model of the settings.

        Raises:
            ConfigurationError: it is wrong, or needs a key that is nowhere.
        """
        await self._refresh_server()
        self._first = None if self._settings.model is None else self._resolver(self._settings.model)
        return self._first

    async def surroundings(self, workspace: str, given: RunContext) -> RunContext:
        """Return the context for a run in a workspace: `given`, with the models that the workspace has now.

        Raises:
            StorageError: the secrets of the workspace were never read, and cannot be now.
        """
        await self._refresh_server()
        models: Callable[[str], LanguageModel] = self._resolver
        if workspace != DEFAULT_WORKSPACE:
            models = await self._of(workspace)
        model = given.model
        if model is not None and model is self._first and self._settings.model is not None:
            model = _resolved(models, self._settings.model)
        if model is given.model and models is given.models:
            return given
        return replace(given, model=model, models=models)

    async def aclose(self) -> None:
        """Free what the models hold."""
        await self._resolver.aclose()
        await self._transport.end()

    async def _refresh_server(self) -> None:
        now = self._clock.monotonic_ns()
        if self._read_ns and now - self._read_ns < FRESH_NS:
            return
        is_first, self._read_ns = not self._read_ns, now
        try:
            found = await self._read(DEFAULT_WORKSPACE)
        except StorageError:
            if is_first:
                raise
            return
        self._resolver.rekey({**found, **self._settings.keys})

    async def _of(self, workspace: str) -> WorkspaceModels:
        now = self._clock.monotonic_ns()
        known = self._known.get(workspace)
        if known is not None:
            self._known.move_to_end(workspace)
            if now - known.read_ns < FRESH_NS:
                return known.models
            known.read_ns = now
        try:
            found = await self._read(workspace)
        except StorageError:
            if known is None:
                raise
            return known.models
        known = self._known.get(workspace) or self._remembered(workspace, now)
        known.models.own.rekey(found)
        return known.models

    def _remembered(self, workspace: str, now: int) -> _Known:
        own = ModelResolver(replace(self._settings, keys={}, model_url=None), transport=self._transport)
        known = self._known[workspace] = _Known(WorkspaceModels(self._resolver, own), now)
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return known

    async def _read(self, workspace: str) -> dict[str, Secret]:
        return await stored_keys(self._store, self._vault, workspace=workspace, say=self._say_once)

    def _say_once(self, text: str) -> None:
        if text not in self._said and len(self._said) < REMEMBERED:
            self._said.add(text)
            self._say(text)
