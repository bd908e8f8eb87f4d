"""Which model it is: what caches, recordings, journals, usage and prices go by."""

from typing import Final, Protocol, cast

import msgspec

from dspex.execution.clients.address import ServerAddress
from dspex.execution.clients.prices import Price, price_of
from dspex.execution.clients.providers import PROVIDERS, is_provider_at, provider_at

CUSTOM: Final = "custom"  # a model class of the user's own
LOCAL: Final = "local"
COMPATIBLE: Final = "openai-compatible"  # a server that speaks OpenAI's protocol and is no known provider


class ModelIdentity(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A model, whatever it is called on screen.

    `provider` is one of `PROVIDERS`, "local", "openai-compatible" or "custom"; `base_url` is the address of its server
    without credentials, a file URL for a model file, and empty where there is neither; `name` is what the server calls
    it; `revision` tells apart what is served under one name at different times, where that is known.
    """

    provider: str
    name: str
    base_url: str = ""
    revision: str = ""

    @property
    def label(self) -> str:
        """Return one text for people that no other model has: usage is booked under it.

        It has the form of a model string: "openai/gpt-4o-mini", "http://host/v1#name", "/models/x.gguf".
        """
        text = self.name
        if self.provider != CUSTOM:
            if self.base_url.startswith("file://"):
                text = self.base_url.removeprefix("file://")
            elif not self.base_url or is_provider_at(self.provider, self.base_url):
                text = f"{self.provider}/{self.name}"
            else:
                text = f"{self.base_url}#{self.name}"
        return f"{text}@{self.revision}" if self.revision else text

    @property
    def price(self) -> Price | None:
        """Return what a call costs by public price lists, None where nobody knows.

        A model of the user's own may be named like one that is in the lists; a server at an unknown address may not.
        """
        if self.provider == CUSTOM:
            return price_of(self.name)
        if self.provider not in PROVIDERS:
            return None
        price = price_of(f"{self.provider}/{self.name}")
        return price_of(f"google/{self.name}") if price is None and self.provider == "gemini" else price


class Identified(Protocol):
    """A model that says which one it is; one that does not, or says None, is known by its name."""

    name: str
    identity: ModelIdentity | None


def identify(model: object) -> ModelIdentity:
    """Return the identity of a model; one without goes by its name, and so does a text."""
    if isinstance(model, ModelIdentity):
        return model
    if isinstance(model, str):
        return ModelIdentity(provider=CUSTOM, name=model)
    try:  # to ask a protocol of attributes takes longer than all the rest of a call
        identity = cast("Identified", model).identity
    except AttributeError:
        identity = None
    return identity or ModelIdentity(provider=CUSTOM, name=cast("Identified", model).name)


def served(model: str, address: ServerAddress, *, name: str | None = None, revision: str = "") -> ModelIdentity:
    """Return the identity of what a server calls `model`.

    Args:
        model: the name in the request body.
        address: of the server.
        name: what the user calls it; "openai/gpt-4o-mini" says that it is a provider's model behind another address.
        revision: tells versions of it apart.
    """
    provider = provider_at(address.base_url)
    called, _, rest = (name or "").partition("/")
    if provider is None and rest and called in PROVIDERS:
        provider, model = called, rest
    return ModelIdentity(provider=provider or COMPATIBLE, base_url=address.base_url, name=model, revision=revision)
