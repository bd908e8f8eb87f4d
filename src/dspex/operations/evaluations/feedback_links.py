"""Signed links by which end users give feedback without a key."""

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from dspex.operations.tenancy.vault import Vault

LONGEST: Final = 1024
_VERSION: Final = b"\1"
_PURPOSE: Final = b"feedback links"
_FIXED: Final = 41  # bytes of version, both ids and the expiry; the workspace follows


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkClaims:
    """What a link allows: one feedback on one execution of one workspace, until it expires."""

    workspace: str
    execution_id: UUID
    link_id: UUID
    expires_at: datetime

    def token(self, vault: Vault) -> str:
        """Return these claims as a text, signed with the server key."""
        expiry = int(self.expires_at.timestamp()).to_bytes(8, "big")
        ids = self.execution_id.bytes + self.link_id.bytes
        body = _encode(_VERSION + ids + expiry + self.workspace.encode())
        return f"{body}.{_signature(body, vault)}"


def read_token(token: str, vault: Vault) -> LinkClaims | None:
    """Return the claims of a token, also of an expired one; None unless this server signed it.

    The signature is compared first and in constant time, as text: two texts that decode to the same
    bytes are not the same token.
    """
    body, _, signature = token.partition(".")
    if len(token) > LONGEST or not token.isascii():
        return None
    if not hmac.compare_digest(_signature(body, vault), signature):
        return None
    data = urlsafe_b64decode(body + "=" * (-len(body) % 4))
    if data[:1] != _VERSION:
        return None
    return LinkClaims(
        workspace=data[_FIXED:].decode(),
        execution_id=UUID(bytes=data[1:17]),
        link_id=UUID(bytes=data[17:33]),
        expires_at=datetime.fromtimestamp(int.from_bytes(data[33:_FIXED], "big"), UTC),
    )


def _signature(body: str, vault: Vault) -> str:
    return _encode(vault.sign(body.encode(), purpose=_PURPOSE))


def _encode(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
