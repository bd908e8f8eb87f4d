"""The identity of a model: the key for caches, recordings, journals, usage and prices."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final, Protocol, cast

import msgspec

from dspex.execution.clients.address import ServerAddress
from dspex.execution.clients.prices import Price, price_of
from dspex.execution.clients.providers import PROVIDERS, is_provider_at, provider_at

CUSTOM: Final = "custom"  # a custom model class
LOCAL: Final = "local"
COMPATIBLE: Final = "openai-compatible"  # any other server with OpenAI's protocol


class ModelIdentity(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Which model it is, independent of its display name.

    `provider` is one of `PROVIDERS`, "local", "openai-compatible" or "custom". `base_url` is the
    address of the server without credentials, a file URL for a model file, or empty. `name` is the
    server's name for the model. `revision` distinguishes versions that are served under one name,
    if known.
    """

    provider: str
    name: str
    base_url: str = ""
    revision: str = ""

    @property
    def label(self) -> str:
        """Return a unique text for people; usage is booked under it.

        It has the form of a model string: "openai/gpt-4o-mini", "http://host/v1#name",
        "/models/x.gguf".
        """
        return _label(self)

    @property
    def price(self) -> Price | None:
        """Return the price by public price lists, None if unknown.

        A custom model class is looked up by its name, a server at an unknown address is not.
        """
        if self.provider == CUSTOM:
            return price_of(self.name)
        if self.provider not in PROVIDERS:
            return None
        price = price_of(f"{self.provider}/{self.name}")
        return (
            price_of(f"google/{self.name}")
            if price is None and self.provider == "gemini"
            else price
        )


class Identified(Protocol):
    """A model with an identity; without one, or with None, its name identifies it."""

    name: str
    identity: ModelIdentity | None


def identify(model: object) -> ModelIdentity:
    """Return the identity of a model or a name; a model without one is identified by its name."""
    if isinstance(model, ModelIdentity):
        return model
    if isinstance(model, str):
        return ModelIdentity(provider=CUSTOM, name=model)
    try:  # faster than isinstance of a Protocol, which would dominate a call
        identity = cast("Identified", model).identity
    except AttributeError:
        identity = None
    return identity or ModelIdentity(provider=CUSTOM, name=cast("Identified", model).name)


def joint_identity(models: Sequence[object]) -> ModelIdentity:
    """Return the identity of models of which any may answer: the first one's, with all others."""
    first, *others = [identify(model) for model in models]
    parts = [first.revision, *(identity.label for identity in others)]
    return msgspec.structs.replace(first, revision=" or ".join(part for part in parts if part))


def server_identity(
    model: str, address: ServerAddress, *, name: str | None = None, revision: str = ""
) -> ModelIdentity:
    """Return the identity of a model at a server.

    Args:
        model: the name in the request body.
        address: the server.
        name: the display name; "openai/gpt-4o-mini" is a provider's model behind another address.
        revision: distinguishes versions of the model.
    """
    provider = provider_at(address.base_url)
    prefix, _, model_name = (name or "").partition("/")
    if provider is None and model_name and prefix in PROVIDERS:
        provider, model = prefix, model_name
    return ModelIdentity(
        provider=provider or COMPATIBLE, base_url=address.base_url, name=model, revision=revision
    )


@lru_cache(maxsize=1024)  # every call of a model asks for it
def _label(model: ModelIdentity) -> str:
    text = model.name
    if model.provider != CUSTOM:
        if model.base_url.startswith("file://"):
            text = model.base_url.removeprefix("file://")
        elif not model.base_url or is_provider_at(model.provider, model.base_url):
            text = f"{model.provider}/{model.name}"
        else:
            text = f"{model.base_url}#{model.name}"
    return f"{text}@{model.revision}" if model.revision else text
