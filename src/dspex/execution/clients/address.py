"""Addresses of model servers; credentials are separated from the URL when it is parsed."""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

from dspex.errors import ConfigurationError

PLAIN_PARAMETERS: Final = frozenset({"api-version", "api_version", "version"})
"""Query parameters that may be shown; any other may be a key."""
REDIS_FORMS: Final = (
    "a URL such as redis://:password@host:6379/0, rediss://... or unix:///path, without options, "
    "and with special characters of the password percent-encoded (%23 for #, %2F for /)"
)
_PORTS: Final = {"http": 80, "https": 443}
_HIDDEN: Final = "(secret)"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerAddress:
    """The address of a model server, and the credentials for it.

    `base_url` may be shown, stored and compared: it has no user, no password, and no parameter that
    may be a key. `user`, `password` and `parameters` are used for requests only.
    """

    base_url: str
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    parameters: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    @classmethod
    def of(cls, url: str) -> "ServerAddress":
        """Parse a URL.

        Raises:
            ConfigurationError: the URL is malformed; the message omits it, because it may hold a
                password.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise ConfigurationError(
                f"the URL of a model server is malformed: {type(error).__name__}"
            ) from None
        host = (parts.hostname or "").lower()
        place = f"[{host}]" if ":" in host else host
        if port is not None and port != _PORTS.get(parts.scheme.lower()):
            place = f"{place}:{port}"
        pairs = parse_qsl(parts.query, keep_blank_values=True)
        plain = urlencode([pair for pair in pairs if pair[0].lower() in PLAIN_PARAMETERS])
        return cls(
            base_url=urlunsplit((parts.scheme.lower(), place, parts.path.rstrip("/"), plain, "")),
            user=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
            parameters=tuple(pair for pair in pairs if pair[0].lower() not in PLAIN_PARAMETERS),
        )

    @property
    def headers(self) -> Mapping[str, str]:
        """Return the headers that carry user and password."""
        if not (self.user or self.password):
            return {}
        token = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        return {"authorization": f"Basic {token}"}

    @property
    def secrets(self) -> tuple[str, ...]:
        """Return every text that must not be shown."""
        values = [self.password, *(value for _, value in self.parameters)]
        if not self.password and self.user:
            values.append(self.user)  # a key in place of the user name
        tokens = [header.removeprefix("Basic ") for header in self.headers.values()]
        return tuple(
            text for value in (*values, *tokens) if value for text in {value, quote(value, safe="")}
        )

    @property
    def has_secrets(self) -> bool:
        """Whether the address has credentials."""
        return bool(self.user or self.password or self.parameters)

    def url(self, path: str) -> str:
        """Return the URL of `path` below the address for requests, with the secret parameters."""
        return self._join(path, urlencode(self.parameters))

    def public_url(self, path: str) -> str:
        """Return the same URL without secrets, for errors and logs."""
        return self._join(path, "")

    def _join(self, path: str, extra_query: str) -> str:
        parts, (place, _, path_query) = urlsplit(self.base_url), path.partition("?")
        query = "&".join(part for part in (path_query, parts.query, extra_query) if part)
        return urlunsplit((parts.scheme, parts.netloc, f"{parts.path}/{place}", query, ""))


def is_url(text: str) -> bool:
    """Return whether a model string names a server by its URL."""
    return text.lower().startswith(("http://", "https://"))


def credentials_of(text: str) -> tuple[str, ...]:
    """Return the secrets in a model string."""
    if not is_url(text):
        return ()
    try:
        return ServerAddress.of(text.partition("#")[0]).secrets
    except ConfigurationError:
        return (text,)


def host_of(text: str) -> str:
    """Return the host of a model string that is a URL, with any port that is not the default."""
    try:
        return urlsplit(ServerAddress.of(text.partition("#")[0]).base_url).netloc
    except ConfigurationError:
        return ""


def without_credentials(text: str) -> str:
    """Return a model string without credentials, to be shown and stored."""
    if not is_url(text):
        return text
    base, mark, name = text.partition("#")
    try:
        address = ServerAddress.of(base)
    except ConfigurationError:
        return f"{text.partition('://')[0]}://{_HIDDEN}"
    return f"{address.base_url}{mark}{name}" if address.has_secrets else text


def is_redis_url(text: str) -> bool:
    """Return whether a text is an address of Redis that clients read as it is meant."""
    try:
        parts = urlsplit(text)
        is_whole = not (parts.query or parts.fragment or "#" in text or "?" in text)
        if parts.scheme == "unix":
            return is_whole and len(parts.path) > 1
        is_place = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:  # the port is no number, or brackets hold no address
        return False
    is_database = re.fullmatch(r"/?\d*", parts.path) is not None
    return parts.scheme in {"redis", "rediss"} and is_whole and is_place and is_database
