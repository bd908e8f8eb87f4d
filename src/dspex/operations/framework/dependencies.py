"""What actions depend on: the store, the clock, ids, and services by type."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Generic, TypeVar
from uuid import UUID

from dspex.clock import Clock
from dspex.errors import ConfigurationError
from dspex.operations.framework.access import Actor
from dspex.operations.framework.audited_store import WriteQuotas
from dspex.operations.framework.store import Change, Store

T = TypeVar("T")


class Lazy(Generic[T]):
    """A service that is made when it is first asked for."""

    def __init__(self, make: Callable[[], T]) -> None:
        """Take the function that makes it."""
        self._make = make

    @cached_property
    def service(self) -> T:
        """The service."""
        return self._make()


class ServiceRegistry:
    """The services of a process, each under the type that actions ask for."""

    def __init__(self, services: Mapping[type[Any], Any]) -> None:
        """Take the services, some of them `Lazy`; those that are None count as missing."""
        self._services = {kind: value for kind, value in services.items() if value is not None}

    def __getitem__(self, kind: type[T]) -> T:
        """Return the service of a type.

        Raises:
            ConfigurationError: this process does not have it.
        """
        service = self.get(kind)
        if service is None:
            raise ConfigurationError(f"this process has no {kind.__name__}; bootstrap opens it")
        return service

    def get(self, kind: type[T]) -> T | None:
        """Return the service of a type, or None if this process does not have it."""
        service: T | Lazy[T] | None = self._services.get(kind)
        return service.service if isinstance(service, Lazy) else service

    def replace(self, services: Mapping[type[Any], Any]) -> "ServiceRegistry":
        """Return these services with others in place of some."""
        return ServiceRegistry({**self._services, **services})


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependencies:
    """The dependencies of all operations.

    `checks` raise if an actor may not make a request. `quotas` limit what workspaces may store;
    without them nothing is counted. `on_write` is called with the committed changes of an action.
    """

    store: Store
    clock: Clock
    new_id: Callable[[], UUID]
    services: ServiceRegistry = field(default_factory=lambda: ServiceRegistry({}))
    checks: tuple[Callable[[Actor, object], None], ...] = ()
    quotas: WriteQuotas | None = None
    on_write: Callable[[Sequence[Change]], None] = lambda _changes: None

    def with_services(self, services: Mapping[type[Any], Any]) -> "Dependencies":
        """Return these dependencies with other services in place of some."""
        return replace(self, services=self.services.replace(services))
