"""Hashes API keys, encrypts secrets and signs links with the server key."""

import hashlib
import hmac
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from functools import cached_property
from typing import Final
from uuid import UUID

from dspex.errors import ConfigurationError, StorageError

PREFIX: Final = "dspx"
MINIMUM: Final = 32
_NONCE = 12


class Vault:
    """Hashes API keys, encrypts secrets and signs links with one key.

    The key is loaded at the first use and never shown. All servers on one database need the same
    key; hashes and ciphertexts name the key that made them.
    """

    def __init__(self, key: Callable[[], bytes]) -> None:
        """Take a function that returns the key: at least 32 bytes."""
        self._source = key

    @cached_property
    def _key(self) -> bytes:
        key = self._source()
        if len(key) < MINIMUM:
            raise ConfigurationError(
                f"the server key has {len(key)} bytes, it needs {MINIMUM}; `openssl rand -hex 32` "
                "makes one"
            )
        return hashlib.blake2b(key, person=b"dspex server").digest()

    @cached_property
    def mark(self) -> str:
        """A fingerprint of the key."""
        return self._derive(b"mark").hex()[:8]

    def _derive(self, purpose: bytes) -> bytes:
        return hashlib.blake2b(
            purpose, key=self._key, digest_size=32, person=b"dspex derived"
        ).digest()

    @cached_property
    def _hash_key(self) -> bytes:
        return self._derive(b"api keys")

    def new_key(self, key_id: UUID) -> tuple[str, str]:
        """Return a new API key for the row `key_id`, and its hash to store."""
        text = f"{PREFIX}_{key_id.hex}_{secrets.token_urlsafe(32)}"
        return text, self.hash(text)

    def hash(self, text: str) -> str:
        """Return the keyed hash of an API key."""
        digest = hashlib.blake2b(text.encode(), key=self._hash_key, digest_size=32)
        return f"{self.mark}:{digest.hexdigest()}"

    def matches(self, text: str, expected: str) -> bool:
        """Return whether `expected` is the hash of `text`; compares in constant time."""
        return hmac.compare_digest(self.hash(text), expected)

    def sign(self, data: bytes, *, purpose: bytes) -> bytes:
        """Return the HMAC (SHA-256) of `data`; signatures for one purpose do not fit another."""
        return hmac.digest(self._derive(purpose), data, "sha256")

    def seal(self, text: str, *, label: str) -> str:
        """Return `text` encrypted (AES-256-GCM) and bound to `label`.

        The label is required to decrypt it.
        """
        nonce = secrets.token_bytes(_NONCE)
        ciphertext = self._cipher.encrypt(nonce, text.encode(), label.encode())
        return f"{self.mark}:{urlsafe_b64encode(nonce + ciphertext).decode()}"

    def open(self, ciphertext: str, *, label: str) -> str:
        """Decrypt the output of `seal`.

        Raises:
            StorageError: it was encrypted with another server key or label, or it was modified.
        """
        from cryptography.exceptions import InvalidTag

        mark, _, body = ciphertext.partition(":")
        if mark != self.mark:
            raise StorageError(
                f"the secret {label!r} was encrypted with another server key ({mark}, not "
                f"{self.mark})"
            )
        try:
            data = urlsafe_b64decode(body)
            return str(self._cipher.decrypt(data[:_NONCE], data[_NONCE:], label.encode()), "utf-8")
        except (InvalidTag, ValueError) as error:
            raise StorageError(
                f"the secret {label!r} was modified after it was encrypted; set it again"
            ) from error

    @cached_property
    def _cipher(self):  # type: ignore[no-untyped-def]  # noqa: ANN202  # imported on demand
        try:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        except ImportError as error:
            raise ConfigurationError(
                "encrypted secrets need more packages: pip install 'dspex[server]'"
            ) from error
        return AESGCM(self._derive(b"secrets"))


def key_id_of(text: str) -> UUID | None:
    """Return the id in an API key, or None if the text is not an API key."""
    parts = text.split("_", 2)
    if len(parts) != 3 or parts[0] != PREFIX or len(parts[1]) != 32 or len(text) > 128:
        return None
    try:
        return UUID(parts[1])
    except ValueError:
        return None
