"""Who is let in, again and again: at each request, each operation on a websocket, and while a stream lasts."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from dspex.bootstrap import Services
from dspex.clock import Clock
from dspex.errors import StorageError
from dspex.operations.framework.access import GUEST, Actor
from dspex.operations.tenancy.keyring import Holder
from dspex.surfaces.api.gateway.configuration import ServerConfig
from dspex.surfaces.api.gateway.rate_limits import RateLimited, RateLimiter

AGAIN_S: Final = 0.5
ENDED: Final = "this key is unknown, revoked or expired"
CHANGED: Final = "what this key allows has changed; subscribe again"


class Unauthenticated(Exception):  # noqa: N818  # it is an answer, not a fault
    """Nobody is let in by this; the message says why."""

    code = "unauthenticated"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


def denial_body(error: Unauthenticated | RateLimited) -> dict[str, Any]:
    """Return a refusal at the authenticator as an error of GraphQL."""
    about: dict[str, Any] = {
        "type": None,
        "code": error.code,
        "retryable": isinstance(error, RateLimited),
    }
    if isinstance(error, RateLimited):
        about["retryAfter"] = error.whole_seconds
    return {"message": error.message, "extensions": about}


@dataclass(frozen=True, slots=True, kw_only=True)
class Authenticator:
    """Checks keys and counts what they are used for; one for all requests of this process."""

    services: Callable[[], Services]
    config: ServerConfig
    rates: RateLimiter
    clock: Clock

    async def holder(self, text: str | None, *, peer: str) -> Holder:
        """Return who holds the key `text`; the store is asked at most once a second.

        Raises:
            Unauthenticated: there is no key, or nobody holds it now.
            RateLimited: too many wrong keys came from `peer`. A right key is never refused: those who
            share an address
                (that of a proxy, maybe) are not locked out by one of them.
            StorageError: the database cannot be read.
        """
        if text is None:
            raise Unauthenticated(
                "a key is needed: send the header 'Authorization: Bearer dspx_...'"
            )
        holder = await self.services().keys.holder(text)
        if holder is None:
            self.rates.guess(peer)
            raise Unauthenticated(ENDED)
        return holder

    @contextmanager
    def counted(self, holder: Holder) -> Iterator[None]:
        """Count one call, and that it runs while the block lasts.

        Raises:
            RateLimited: the key was used too often in the last minute, or for too much at once.
        """
        config = self.config
        self.rates.take(
            holder.key_id, per_minute=holder.requests_per_minute or config.requests_per_minute
        )
        with self.rates.running(holder.key_id, at_once=holder.concurrency or config.concurrency):
            yield


@dataclass(slots=True, kw_only=True)
class CallerSession:
    """One who keeps a connection open: asked for the key again whenever something is done or told on it.

    Without a `text` the caller is local where nobody needs a key, and nobody otherwise.
    """

    authenticator: Authenticator
    peer: str
    text: str | None = field(default=None, repr=False)
    _known: Holder | None = field(default=None, repr=False)

    async def actor(self) -> Actor:
        """Return who it is now.

        Raises:
            Unauthenticated: the key has ended.
            StorageError: the database cannot be read.
        """
        if not self.authenticator.config.needs_key:
            return GUEST
        if self._known is None:
            self._known = await self.authenticator.holder(self.text, peer=self.peer)
        else:  # a key that was right once is no guess, also when it has ended
            holder = await self.authenticator.services().keys.holder(self.text or "")
            if holder is None:
                raise Unauthenticated(ENDED)
            self._known = holder
        return self._known.actor

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count one operation; see `Authenticator.counted`."""
        if self._known is None:
            yield
            return
        with self.authenticator.counted(self._known):
            yield

    async def check(self, actor: Actor) -> None:
        """Return where this caller is still `actor`.

        Raises:
            Unauthenticated: the key has ended, or allows something else now.
            StorageError: the database cannot be read.
        """
        if await self.actor() != actor:
            raise Unauthenticated(CHANGED)

    async def stays(self, actor: Actor) -> None:
        """Return when this caller is still `actor`; waits while the database cannot tell.

        Raises:
            Unauthenticated: the key has ended, or allows something else now.
        """
        while True:
            try:
                await self.check(actor)
            except StorageError:
                await self.authenticator.clock.sleep(AGAIN_S)
            else:
                return

    async def ends(self, actor: Actor) -> Unauthenticated:
        """Return why this caller is `actor` no more, as soon as that is so: looks twice a second."""
        if not self.authenticator.config.needs_key:
            await asyncio.Event().wait()
        try:
            while True:
                await self.authenticator.clock.sleep(AGAIN_S)
                await self.stays(actor)
        except Unauthenticated as denied:
            return denied
