"""The actions on workspaces, API keys and secrets."""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from types import MappingProxyType
from typing import Any, TypeVar

from dspex.error_text import suggest
from dspex.errors import ConflictError, ForbiddenError, InvalidError, NotFoundError
from dspex.operations.framework.access import DEFAULT_WORKSPACE, SCOPES
from dspex.operations.framework.action import action
from dspex.operations.framework.field_errors import field_error, invalid
from dspex.operations.framework.missing_rows import missing_row
from dspex.operations.framework.operations import Operations
from dspex.operations.framework.policies import OPERATORS, OWN_WORKSPACE, AccessPolicy
from dspex.operations.framework.resource import Resource, Row
from dspex.operations.framework.store import Insert, Query, Update
from dspex.operations.tenancy.records import (
    API_KEY,
    SECRET,
    WORKSPACE,
    ApiKeyRecord,
    SecretRecord,
    WorkspaceRecord,
)
from dspex.operations.tenancy.vault import Vault

R = TypeVar("R", bound=Row)
_invalid = partial(invalid, constraint="definition")
_MOST = 1_000_000_000  # days or executions: fits into a database column
_LIMITS = ("keep_days", "keep_count", "quota_executions", "quota_mib")
KEY_MAKERS = AccessPolicy(
    name=f"keys of the own workspace, or {OPERATORS.name}",
    rows=lambda actor: {} if OPERATORS.admits(actor) else OWN_WORKSPACE.rows(actor),
)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateWorkspace:
    """Create a workspace: an isolated tenant. Only admins of the workspace "default" can."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveWorkspace:
    """Archive a workspace: its keys stop working, its rows stay. Only admins of "default" can."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReopenWorkspace:
    """Reopen an archived workspace with its rows and keys. Only admins of "default" can."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigureWorkspace:
    """Set how much a workspace may store, and for how long. Only admins of "default" can.

    Executions are deleted when they are older than `keep_days`, or not among the newest
    `keep_count` of their program; the settings of a program take precedence. At most
    `quota_executions` executions and `quota_mib` of JSON may be stored. 0 means unlimited; -1
    restores the settings of the server, which always apply to the workspace "default".
    """

    name: str
    keep_days: int | None = None
    keep_count: int | None = None
    quota_executions: int | None = None
    quota_mib: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateApiKey:
    """Create an API key; its text is only in this reply and never shown again.

    `scopes` are any of read, execute, write, admin (which includes the others).
    `requests_per_minute` and `concurrency`, of requests at once, limit its use; omitted limits are
    those of the server. It stops working at `expires_at`, by default never. Only admins of the
    workspace "default" can name another `workspace`.
    """

    name: str
    scopes: list[str]
    workspace: str | None = None
    requests_per_minute: int | None = None
    concurrency: int | None = None
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RotateApiKey:
    """Replace the text of the key with this name; the old text stops working within a second.

    Only admins of the workspace "default" can name another `workspace`.
    """

    name: str
    workspace: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokeApiKey:
    """Revoke the key with this name for good; it stops working within a second.

    Only admins of the workspace "default" can name another `workspace`.
    """

    name: str
    workspace: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedKey:
    """A new key; its text is shown only once."""

    api_key: ApiKeyRecord
    key: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateSecret:
    """Store a secret: its `text`, which is encrypted, or a `reference` to it.

    A reference is "env:NAME" or "file:/path", read when the secret is used. Only admins of the
    workspace "default" can use references, because they name resources of the server.
    """

    name: str
    text: str | None = field(default=None, repr=False)
    reference: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RotateSecret:
    """Replace the `text` or the `reference` of the secret with this name; see `CreateSecret`."""

    name: str
    text: str | None = field(default=None, repr=False)
    reference: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokeSecret:
    """Revoke the secret with this name; its encrypted text is deleted."""

    name: str


@action(WORKSPACE, scope="admin", policies=(OPERATORS,))
async def create_workspace(operations: Operations, request: CreateWorkspace) -> WorkspaceRecord:
    """Create a workspace: an isolated tenant. Only admins of the workspace "default" can."""
    _check_name(request.name)
    if request.name == DEFAULT_WORKSPACE:
        raise ConflictError(f"the workspace {DEFAULT_WORKSPACE!r} always exists")
    existing = await operations.store.get(WORKSPACE, name=request.name)
    if existing is not None and existing.status == "archived":
        remedy = (
            "`reopen_workspace` (`dspex workspace reopen`) opens it again, or choose another name"
        )
        raise _name_taken(
            request.name, f"there is an archived workspace {request.name!r}; {remedy}"
        )
    workspace = WorkspaceRecord(
        **{**operations.new_row(), "workspace": request.name}, name=request.name
    )
    return await _add(operations, workspace)


@action(WORKSPACE, scope="admin", policies=(OPERATORS,))
async def archive_workspace(operations: Operations, request: ArchiveWorkspace) -> WorkspaceRecord:
    """Archive a workspace: its keys stop working, its rows stay. Only admins of "default" can."""
    workspace = await _workspace(operations, request.name)
    return await _step(operations, WORKSPACE, workspace, "archive")


@action(WORKSPACE, scope="admin", policies=(OPERATORS,))
async def reopen_workspace(operations: Operations, request: ReopenWorkspace) -> WorkspaceRecord:
    """Reopen an archived workspace with its rows and keys. Only admins of "default" can."""
    workspace = await _workspace(operations, request.name)
    return await _step(operations, WORKSPACE, workspace, "reopen")


@action(WORKSPACE, scope="admin", policies=(OPERATORS,))
async def configure_workspace(
    operations: Operations, request: ConfigureWorkspace
) -> WorkspaceRecord:
    """Set how much a workspace may store, and for how long. Only admins of "default" can."""
    values: dict[str, Any] = {}
    for name in _LIMITS:
        value = getattr(request, name)
        if value is not None:
            if not -1 <= value <= _MOST:
                raise _invalid(
                    name, value, "a number of at least 0, or -1 for the settings of the server"
                )
            values[name] = value if value >= 0 else None
    if not values:
        raise InvalidError(f"give at least one of {', '.join(_LIMITS)}")
    if request.name == DEFAULT_WORKSPACE:
        raise ConflictError(
            f"the workspace {DEFAULT_WORKSPACE!r} is configured by the settings of the server"
        )
    workspace = await _workspace(operations, request.name)
    values["updated_at"] = operations.clock.now()
    await operations.store.write(Update(resource=WORKSPACE, id=workspace.id, values=values))
    return dataclasses.replace(workspace, **values)


@action(API_KEY, scope="admin", policies=(KEY_MAKERS,))
async def create_api_key(operations: Operations, request: CreateApiKey) -> IssuedKey:
    """Create an API key; its text is only in this reply and never shown again."""
    _check_name(request.name)
    workspace = await _workspace_of_key(operations, request.workspace)
    if not request.scopes:
        raise _invalid("scopes", request.scopes, f"at least one of: {', '.join(SCOPES)}")
    for scope in request.scopes:
        if scope not in SCOPES:
            raise _invalid(
                "scopes", scope, f"one of: {', '.join(SCOPES)}{suggest(scope, list(SCOPES))}"
            )
    limits = {
        "requests_per_minute": request.requests_per_minute,
        "concurrency": request.concurrency,
    }
    for name, value in limits.items():
        if value is not None and value < 1:
            raise _invalid(name, value, "a whole number of at least 1")
    if request.expires_at is not None and request.expires_at.tzinfo is None:
        raise _invalid(
            "expires_at",
            str(request.expires_at),
            "a time with a zone, such as 2030-01-01T00:00:00Z",
        )
    if request.expires_at is not None and request.expires_at <= operations.clock.now():
        raise _invalid("expires_at", str(request.expires_at), "a time in the future")
    row = {**operations.new_row(), "workspace": workspace}
    text, key_hash = operations.services[Vault].new_key(row["id"])
    record = ApiKeyRecord(
        **row,
        name=request.name,
        scopes=sorted(set(request.scopes)),
        limits={name: value for name, value in limits.items() if value is not None},
        hash=key_hash,
        expires_at=request.expires_at,
    )
    return IssuedKey(api_key=await _add(operations, record), key=text)


@action(API_KEY, scope="admin", policies=(KEY_MAKERS,))
async def rotate_api_key(operations: Operations, request: RotateApiKey) -> IssuedKey:
    """Replace the text of the key with this name; the old text stops working within a second."""
    record = await _key(operations, request)
    text, key_hash = operations.services[Vault].new_key(record.id)
    # of two concurrent rotations one fails, so that no caller gets a key that does not work
    before = {"hash": record.hash}
    return IssuedKey(
        api_key=await _step(operations, API_KEY, record, "rotate", expected=before, hash=key_hash),
        key=text,
    )


@action(API_KEY, scope="admin", policies=(KEY_MAKERS,))
async def revoke_api_key(operations: Operations, request: RevokeApiKey) -> ApiKeyRecord:
    """Revoke the key with this name for good; it stops working within a second."""
    return await _step(operations, API_KEY, await _key(operations, request), "revoke")


@action(SECRET, scope="admin")
async def create_secret(operations: Operations, request: CreateSecret) -> SecretRecord:
    """Store a secret: its `text`, which is encrypted, or a `reference` to it."""
    _check_name(request.name)
    values: dict[str, Any] = {
        **operations.new_row(),
        **_secret_columns(operations, request),
    }
    record = SecretRecord(name=request.name, **values)
    return await _add(operations, record)


@action(SECRET, scope="admin")
async def rotate_secret(operations: Operations, request: RotateSecret) -> SecretRecord:
    """Replace the text or the reference of the secret with this name; see `CreateSecret`."""
    record = await _secret(operations, request.name)
    return await _step(operations, SECRET, record, "rotate", **_secret_columns(operations, request))


@action(SECRET, scope="admin")
async def revoke_secret(operations: Operations, request: RevokeSecret) -> SecretRecord:
    """Revoke the secret with this name; its encrypted text is deleted."""
    record = await _secret(operations, request.name)
    return await _step(operations, SECRET, record, "revoke", ciphertext=None, reference=None)


def _secret_columns(operations: Operations, request: CreateSecret | RotateSecret) -> dict[str, Any]:
    if (request.text is None) == (request.reference is None):
        raise InvalidError("give either the text of the secret or a reference to it")
    if request.text is not None:
        if not request.text or request.text != request.text.strip():
            raise _invalid(
                "text", "(not shown)", "a text without white space or a line end around it"
            )
        label = f"{operations.workspace}/{request.name}"
        return {
            "ciphertext": operations.services[Vault].seal(request.text, label=label),
            "reference": None,
        }
    _require_operator(operations, "a secret by reference")
    kind, _, location = (request.reference or "").partition(":")
    if kind not in {"env", "file"} or not location:
        raise _invalid("reference", request.reference, "env:NAME or file:/path")
    return {"reference": request.reference, "ciphertext": None}


async def _workspace(operations: Operations, name: str) -> WorkspaceRecord:
    workspace = await operations.store.get(WORKSPACE, name=name)
    if workspace is None:
        raise await missing_row(operations, WORKSPACE, name)
    return workspace


async def _workspace_of_key(operations: Operations, name: str | None) -> str:
    if name is None or name == operations.workspace:
        return operations.workspace
    _require_operator(operations, "a key for another workspace")
    record = await operations.store.get(WORKSPACE, name=name)
    if record is None or record.status != "active":
        raise NotFoundError(
            f"there is no active workspace {name!r}; `dspex workspace create {name}` creates it"
        )
    return name


def _require_operator(operations: Operations, operation: str) -> None:
    if operations.workspace != DEFAULT_WORKSPACE:
        raise ForbiddenError(
            f"{operation} is for admins of the workspace {DEFAULT_WORKSPACE!r}", scope="admin"
        )


N = TypeVar("N", WorkspaceRecord, ApiKeyRecord, SecretRecord)


async def _add(operations: Operations, record: N) -> N:
    try:
        await operations.store.write(Insert(record))
    except ConflictError:
        what = operations.store.resource_of(record).name.replace("_", " ")
        message = (
            f"there is a {what} named {record.name!r} already, possibly revoked or archived; "
            "choose another name"
        )
        raise _name_taken(record.name, message) from None
    return record


def _name_taken(name: str, message: str) -> ConflictError:
    expected = "a name that is free"
    error = field_error("name", name, expected, message=message, constraint="unique")
    return ConflictError(f"name: {message}", errors=[error])


async def _key(operations: Operations, request: RotateApiKey | RevokeApiKey) -> ApiKeyRecord:
    """Return the key of the request, even if its workspace is archived."""
    workspace = request.workspace or operations.workspace
    if workspace != operations.workspace:
        _require_operator(operations, "a key of another workspace")
    record = await operations.store.get(API_KEY, workspace=workspace, name=request.name)
    if record is not None:
        return record
    message = f"there is no api key {request.name!r} in the workspace {workspace!r}"
    if OPERATORS.admits(operations.actor):
        same_name = await operations.store.select(
            API_KEY, Query(where={"name": request.name}, limit=10)
        )
        message += "".join(
            f"; there is one in the workspace {row.workspace!r}" for row in same_name
        )
    raise NotFoundError(message)


async def _secret(operations: Operations, name: str) -> SecretRecord:
    record = await operations.store.get(SECRET, workspace=operations.workspace, name=name)
    if record is None:
        raise await missing_row(operations, SECRET, name)
    return record


async def _step(  # noqa: PLR0917
    operations: Operations,
    resource: Resource[R],
    record: R,
    action: str,
    *,
    expected: Mapping[str, Any] = MappingProxyType({}),
    **values: Any,
) -> R:
    before: str = getattr(record, "status")  # noqa: B009  # every resource with transitions has one
    values |= {"status": resource.step(action, before), "updated_at": operations.clock.now()}
    change = Update(
        resource=resource, id=record.id, values=values, statuses=(before,), expected=expected
    )
    await operations.store.write(change)
    return dataclasses.replace(record, **values)


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise _invalid(
            "name", name, "1 to 64 letters, digits, '_', '.' or '-', the first a letter or digit"
        )
