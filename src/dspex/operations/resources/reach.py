"""What the holder of a key may make the server reach."""

from collections.abc import Mapping

from dspex.errors import ForbiddenError
from dspex.operations.resources.access import Actor

_PROSE = {"demos", "instructions"}  # what a model reads, and nobody resolves


def check_reach(actor: Actor, given: object) -> None:
    """Do nothing where an action's configuration names no address or file that this actor may not choose.

    A model by URL is sent the key of its workspace and can be anything in the server's network, a model by path is a
    file of the server: through an API only admins choose these. Models of the providers are for everybody.

    Raises:
        ForbiddenError: it names one; the setting is told.
    """
    if actor.key_id is None or actor.may("admin"):
        return
    for name, value in _texts(getattr(given, "configuration", None)):
        if "://" in value or value.endswith(".gguf"):
            raise ForbiddenError(f"configuration.{name}: only admins choose a model by URL or path", scope="admin")


def _texts(value: object, name: str = "") -> list[tuple[str, str]]:
    if isinstance(value, str):
        return [(name, value)]
    if isinstance(value, Mapping):
        parts = [(f"{name}.{key}" if name else str(key), part) for key, part in value.items() if key not in _PROSE]
        return [found for path, part in parts for found in _texts(part, path)]
    if isinstance(value, list):
        return [found for n, part in enumerate(value) for found in _texts(part, f"{name}[{n}]")]
    return []
