"""Checks of API keys: at each request and operation, and as long as a stream lasts."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from dspex.bootstrap import Services
from dspex.clock import Clock
from dspex.errors import StorageError
from dspex.operations.evaluations.feedback_links import LinkClaims, read_token
from dspex.operations.framework.access import GUEST, Actor
from dspex.operations.tenancy.keyring import Holder
from dspex.operations.tenancy.vault import Vault
from dspex.surfaces.api.gateway.configuration import ServerConfig
from dspex.surfaces.api.gateway.rate_limits import RateLimited, RateLimiter

INTERVAL_S: Final = 0.5
LINK_PER_MINUTE: Final = 30
LINK_AT_ONCE: Final = 4
KEY_ENDED: Final = "this key is unknown, revoked or expired"
KEY_CHANGED: Final = "what this key allows has changed; subscribe again"


class Unauthenticated(Exception):  # noqa: N818  # a response, not a fault
    """The caller has no valid key; the message says why."""

    code = "unauthenticated"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


def denial_body(error: Unauthenticated | RateLimited) -> dict[str, Any]:
    """Return a denial as an error of GraphQL."""
    extensions: dict[str, Any] = {
        "type": None,
        "code": error.code,
        "retryable": isinstance(error, RateLimited),
    }
    if isinstance(error, RateLimited):
        extensions["retryAfter"] = error.whole_seconds
    return {"message": error.message, "extensions": extensions}


@dataclass(frozen=True, slots=True, kw_only=True)
class Authenticator:
    """Checks keys and counts their use; one for all requests of this process."""

    services: Callable[[], Services]
    config: ServerConfig
    rates: RateLimiter
    clock: Clock

    async def authenticate(self, key: str | None, *, peer: str) -> Holder:
        """Return the holder of a key; the store is read at most once a second.

        Raises:
            Unauthenticated: the key is missing or not valid.
            RateLimited: too many wrong keys came from `peer`. A valid key is never refused, so one
                client cannot lock out others with the same address (such as that of a proxy).
            StorageError: the database cannot be read.
        """
        if key is None:
            raise Unauthenticated(
                "a key is needed: send the header 'Authorization: Bearer dspx_...'"
            )
        holder = await self.services().keys.holder(key)
        if holder is None:
            self.rates.count_wrong_key(peer)
            raise Unauthenticated(KEY_ENDED)
        return holder

    @contextmanager
    def link_call(self, token: str, *, peer: str) -> Iterator[LinkClaims]:
        """Return what a signed link allows, and count its use while the block lasts.

        Raises:
            Unauthenticated: this server did not sign it, or it has expired.
            RateLimited: the link is used too often, or too many wrong ones came from `peer`.
        """
        claims = read_token(token, self.services().operations.services[Vault])
        if claims is None or claims.expires_at <= self.clock.now():
            self.rates.count_wrong_key(peer)
            raise Unauthenticated("this link is not valid, or has expired")
        key = f"link {claims.link_id}"
        self.rates.take(key, per_minute=LINK_PER_MINUTE)
        with self.rates.running(key, at_once=LINK_AT_ONCE):
            yield claims

    @contextmanager
    def count_call(self, holder: Holder) -> Iterator[None]:
        """Count one call, and count it as running inside the block.

        Raises:
            RateLimited: the key made too many requests in the last minute, or makes too many now.
        """
        config = self.config
        self.rates.take(
            holder.key_id, per_minute=holder.requests_per_minute or config.requests_per_minute
        )
        with self.rates.running(holder.key_id, at_once=holder.concurrency or config.concurrency):
            yield


@dataclass(slots=True, kw_only=True)
class CallerSession:
    """The caller on an open connection, whose key is checked again at each operation and event.

    Without a `key` the caller is the local actor if the server needs no keys, and nobody otherwise.
    """

    authenticator: Authenticator
    peer: str
    key: str | None = field(default=None, repr=False)
    _holder: Holder | None = field(default=None, repr=False)

    async def actor(self) -> Actor:
        """Return the actor of the key now.

        Raises:
            Unauthenticated: the key is not valid, or no longer.
            RateLimited: see `Authenticator.authenticate`.
            StorageError: the database cannot be read.
        """
        if not self.authenticator.config.needs_key:
            return GUEST
        if self._holder is None:
            self._holder = await self.authenticator.authenticate(self.key, peer=self.peer)
        else:  # a key that was valid once does not count as a guess after its end
            holder = await self.authenticator.services().keys.holder(self.key or "")
            if holder is None:
                raise Unauthenticated(KEY_ENDED)
            self._holder = holder
        return self._holder.actor

    @contextmanager
    def count_call(self) -> Iterator[None]:
        """Count one operation; see `Authenticator.count_call`."""
        if self._holder is None:
            yield
            return
        with self.authenticator.count_call(self._holder):
            yield

    async def check(self, actor: Actor) -> None:
        """Check that this caller is still `actor`.

        Raises:
            Unauthenticated: the key has ended, or allows something else now.
            StorageError: the database cannot be read.
        """
        if await self.actor() != actor:
            raise Unauthenticated(KEY_CHANGED)

    async def check_patiently(self, actor: Actor) -> None:
        """Check that this caller is still `actor`; wait while the database cannot be read.

        Raises:
            Unauthenticated: the key has ended, or allows something else now.
        """
        while True:
            try:
                await self.check(actor)
            except StorageError:
                await self.authenticator.clock.sleep(INTERVAL_S)
            else:
                return

    async def wait_for_end(self, actor: Actor) -> Unauthenticated:
        """Check the key twice a second; return the reason when this caller is no longer `actor`."""
        if not self.authenticator.config.needs_key:
            await asyncio.Event().wait()
        try:
            while True:
                await self.authenticator.clock.sleep(INTERVAL_S)
                await self.check_patiently(actor)
        except Unauthenticated as error:
            return error
