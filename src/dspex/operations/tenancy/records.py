"""Stored workspaces, API keys and secrets."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from dspex.operations.framework.resource import Resource, Row, Transition


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceRecord(Row):
    """A tenant. Its `workspace` is its own name.

    Executions are kept for `keep_days`, and the newest `keep_count` of each program (0: all; None:
    the server's settings); the settings of a program take precedence. The workspace may store
    `quota_executions` executions and `quota_mib` of JSON in total (0: unlimited; None: the server's
    settings).
    """

    name: str
    status: Literal["active", "archived"] = "active"
    keep_days: int | None = None
    keep_count: int | None = None
    quota_executions: int | None = None
    quota_mib: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKeyRecord(Row):
    """An API key with its scopes, limits and expiry. Only a hash of the key is stored."""

    name: str
    status: Literal["active", "revoked"] = "active"
    scopes: list[str]
    limits: dict[str, Any]
    hash: str
    expires_at: datetime | None = None
    last_used_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretRecord(Row):
    """A secret, by reference ("env:NAME", "file:/path") or encrypted; its text is never shown."""

    name: str
    status: Literal["active", "revoked"] = "active"
    reference: str | None = None
    ciphertext: str | None = None


WORKSPACE = Resource(
    name="workspace",
    plural="workspaces",
    entity=WorkspaceRecord,
    transitions={
        "archive": Transition(("active",), "archived"),
        "reopen": Transition(("archived",), "active"),
    },
    unique=(("name",),),
    reading="admin",
    is_counted=False,
)
API_KEY = Resource(
    name="api_key",
    plural="api_keys",
    entity=ApiKeyRecord,
    transitions={
        "revoke": Transition(("active",), "revoked"),
        "rotate": Transition(("active",), "active"),
    },
    unique=(("workspace", "name"),),
    hidden=("workspace", "lock_version", "hash"),
    reading="admin",
    is_counted=False,
)
SECRET = Resource(
    name="secret",
    plural="secrets",
    entity=SecretRecord,
    transitions={
        "revoke": Transition(("active",), "revoked"),
        "rotate": Transition(("active",), "active"),
    },
    unique=(("workspace", "name"),),
    hidden=("workspace", "lock_version", "ciphertext"),
    reading="admin",
    is_counted=False,
)
