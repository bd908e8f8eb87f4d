"""Restricts the addresses and files that API callers can make the server use."""

import math
from collections.abc import Iterator, Mapping

from dspex.errors import ForbiddenError, InvalidError
from dspex.execution.clients.address import credentials_of, host_of, is_url, without_credentials
from dspex.execution.clients.providers import self_hosted_url
from dspex.execution.sandbox import SANDBOXES, find_sandbox
from dspex.language.programs import Program
from dspex.operations.framework.access import DEFAULT_WORKSPACE, Actor

_PARTS = ("configuration", "judge_model", "embedder", "variables", "constraints")
_PROSE = {"demos", "instructions"}  # texts for the model, never resolved as addresses
_HOLDERS = (str, dict, list)
_MOST_VALUES = 50_000  # in each of these parts of a request, which are read on the server's loop
NOT_ALLOWED = (
    "may be chosen by admins of the workspace 'default' only: it is named by URL or path, or is "
    "the server's own Ollama (ollama/NAME). Every workspace may choose models of providers, and of "
    "servers at the hosts in the setting `model_hosts` (DSPEX_MODEL_HOSTS)"
)


def check_reach(actor: Actor, request: object, hosts: frozenset[str] = frozenset()) -> None:
    """Raise unless the actor may choose every address and file in the configuration of a request.

    A model by URL receives the key of its workspace and can be anything in the server's network; a
    model by path is a file of the server; `ollama/NAME` is a server of the operator. API callers
    may choose these only as admins of the workspace `default`, except for servers at one of
    `hosts`. Models of public providers are open to everybody. Credentials in a URL are always
    rejected, because they would be stored, shown and audited. A sandbox that is not a security
    boundary would let the code of a model read the server's files, so it needs the same rights.

    Raises:
        ForbiddenError: the actor may not choose an address or a sandbox; the message has the
            setting.
        InvalidError: a URL contains credentials, or there are too many values to look at.
    """
    is_free = actor.key_id is None or (actor.may("admin") and actor.workspace == DEFAULT_WORKSPACE)
    if not is_free:
        _check_sandbox(getattr(request, "configuration", None))
    for part in _PARTS:
        for name, value in _addresses({part: getattr(request, part, None)}, most=_MOST_VALUES):
            check_credentials(name, value)
            is_restricted = "://" in value or is_restricted_model(value)
            if is_restricted and not is_free and not is_allowed(value, hosts):
                raise ForbiddenError(f"{name}: this model {NOT_ALLOWED}", scope="admin")


def _check_sandbox(configuration: object) -> None:
    name = configuration.get("sandbox") if isinstance(configuration, Mapping) else None
    if not isinstance(name, str) or name not in SANDBOXES or find_sandbox(name).is_safe:
        return
    safe = [name for name in SANDBOXES if find_sandbox(name).is_safe]
    raise ForbiddenError(
        f"configuration.sandbox: {name!r} is not a security boundary, so only admins of the "
        f"workspace 'default' may choose it; use one of: {', '.join(safe)}",
        scope="admin",
    )


def is_allowed(text: str, hosts: frozenset[str]) -> bool:
    """Return whether `hosts` allow the server of a model string (a URL or a self-hosted model)."""
    url = text if is_url(text) else self_hosted_url(text)
    return url is not None and host_of(url) in hosts


def is_restricted_model(text: str) -> bool:
    """Return whether a model string names a URL, a self-hosted server or a file of the server."""
    return is_url(text) or text.endswith(".gguf") or self_hosted_url(text) is not None


def check_credentials(place: str, text: str) -> None:
    """Raise if a model string to be stored at `place` contains credentials.

    Outside of model settings, a URL with a password or with a model name is treated as a model
    string, because it may be an option of a variable.

    Raises:
        InvalidError: the text contains credentials; the message has the text without them.
    """
    is_model = (
        place.endswith("model") or "#" in text or "@" in text.partition("://")[2].partition("/")[0]
    )
    if is_model and credentials_of(text):
        raise InvalidError(
            f"{place}: credentials in a model's URL would be stored with it; write "
            f"{without_credentials(text)!r}, and store the key as the secret DSPEX_API_KEY of the "
            "workspace (dspex secret create, create_secret)"
        )


def check_definition(program: Program) -> None:
    """Raise if a program to be stored names a model by a URL with credentials.

    Raises:
        InvalidError: the message has the place of the URL.
    """
    for name, value in _addresses(
        {"definition": program.definition(), "assignment": dict(program.assignment)}
    ):
        check_credentials(name, value)


_Place = tuple["_Place | None", str | int]


def _addresses(value: object, *, most: float = math.inf) -> Iterator[tuple[str, str]]:
    """Yield each text that may name a server or a file, with its place.

    A value may have many parts: none of them costs a call, and the text of a place is built only
    for what is yielded.

    Raises:
        InvalidError: there are more than `most` values.
    """
    remaining: list[tuple[object, _Place | None]] = [(value, None)]
    count = 0
    while remaining:
        value, place = remaining.pop()
        if isinstance(value, dict | list):
            count += len(value)
            if count > most:
                raise InvalidError(
                    f"{_place_text(place)}: too many values; a setting of a request has at most "
                    f"{most:,}, all its parts included"
                )
        if isinstance(value, str):
            if "/" in value or value.endswith(".gguf"):
                yield _place_text(place), value
        elif isinstance(value, dict):
            remaining += [
                (part, (place, str(key)))
                for key, part in reversed(value.items())
                if part and isinstance(part, _HOLDERS) and key not in _PROSE
            ]
        elif isinstance(value, list):
            remaining += [
                (part, (place, number))
                for number, part in reversed(list(enumerate(value)))
                if part and isinstance(part, _HOLDERS)
            ]


def _place_text(place: _Place | None) -> str:
    steps: list[str] = []
    while place is not None:
        place, step = place
        steps.append(f"[{step}]" if isinstance(step, int) else f".{step}")
    return "".join(reversed(steps)).removeprefix(".")
