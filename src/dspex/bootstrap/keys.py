"""The key of the server, and provider keys that are stored as secrets."""

import os
import secrets
from collections.abc import Callable
from pathlib import Path

from dspex.errors import ConfigurationError, StorageError
from dspex.operations.framework.access import DEFAULT_WORKSPACE
from dspex.operations.framework.store import Query, Store
from dspex.operations.tenancy.records import SECRET
from dspex.operations.tenancy.vault import Vault
from dspex.settings import Secret, Settings, resolve_secret

FILE = "server.key"


def vault_of(settings: Settings) -> Vault:
    """Return the vault of this server; its key is read or created at the first use."""
    return Vault(lambda: _server_key(settings))


def _server_key(settings: Settings) -> bytes:
    if settings.secret_key is not None:
        return settings.secret_key.reveal().encode()
    file = settings.state_dir / FILE
    try:
        if not file.exists():
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _create_key(file)
        return file.read_bytes()
    except OSError as error:
        raise StorageError(
            f"cannot read the server key {str(file)!r}: {error}; or set DSPEX_SECRET_KEY"
        ) from error


def _create_key(file: Path) -> None:
    """Write a new key that only this user can read.

    Of two concurrent processes, the first one wins.
    """
    new_file = file.with_name(f"{FILE}.{secrets.token_hex(4)}")
    handle = os.open(new_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w") as stream:
            stream.write(secrets.token_hex(32))
        os.link(new_file, file)
    except FileExistsError:
        return
    finally:
        new_file.unlink()


async def stored_keys(
    store: Store, vault: Vault, *, workspace: str, say: Callable[[str], None]
) -> dict[str, Secret]:
    """Return the secrets of a workspace by name.

    Unreadable ones are reported to `say` and left out.
    """
    where = {"workspace": workspace, "status": "active"}
    keys: dict[str, Secret] = {}
    for row in await store.select(SECRET, Query(where=where, limit=1000)):
        try:
            if row.reference is not None:
                keys[row.name] = resolve_secret(row.reference)
            elif row.ciphertext is not None:
                keys[row.name] = Secret(
                    vault.open(row.ciphertext, label=f"{row.workspace}/{row.name}")
                )
        except (StorageError, ConfigurationError) as error:
            place = "" if workspace == DEFAULT_WORKSPACE else f" of the workspace {workspace!r}"
            say(f"the secret {row.name!r}{place} cannot be used: {error.message}")
    return keys
