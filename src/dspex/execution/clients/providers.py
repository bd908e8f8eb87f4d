"""The providers that model strings name, with their addresses and key variables."""

from typing import Final, NamedTuple

OPENAI_COMPATIBLE: Final = "openai:OpenAIModel"
OPENAI_EMBEDDER: Final = "openai_embedder:OpenAIEmbedder"


class Provider(NamedTuple):
    """A provider: its address, the environment variable of its key, and its client.

    The clients speak its protocol: classes in this room, "file:Class", for models and embedders;
    they take the name of the model, `base_url`, `api_key` and `transport`, those with OpenAI's
    protocol also `name`. `embedder` is None if the provider has no embeddings.
    """

    base_url: str
    key: str | None = None
    client: str = OPENAI_COMPATIBLE
    embedder: str | None = OPENAI_EMBEDDER


PROVIDERS: Final[dict[str, Provider]] = {
    "openai": Provider("https://api.openai.com/v1", "OPENAI_API_KEY"),
    "openrouter": Provider("https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
    "groq": Provider("https://api.groq.com/openai/v1", "GROQ_API_KEY"),
    "deepseek": Provider("https://api.deepseek.com/v1", "DEEPSEEK_API_KEY"),
    "mistral": Provider("https://api.mistral.ai/v1", "MISTRAL_API_KEY"),
    "together": Provider("https://api.together.xyz/v1", "TOGETHER_API_KEY"),
    "fireworks": Provider("https://api.fireworks.ai/inference/v1", "FIREWORKS_API_KEY"),
    "ollama": Provider("http://127.0.0.1:11434/v1"),
    "anthropic": Provider(
        "https://api.anthropic.com/v1", "ANTHROPIC_API_KEY", "anthropic:AnthropicModel", None
    ),
    "gemini": Provider(
        "https://generativelanguage.googleapis.com/v1beta",
        "GEMINI_API_KEY",
        "gemini:GeminiModel",
        "gemini_embedder:GeminiEmbedder",
    ),
}

SELF_HOSTED: Final = frozenset({"ollama"})
"""Providers whose address is a server of the operator, not a public service."""


def self_hosted_url(text: str) -> str | None:
    """Return the URL of the self-hosted server in a model string ("ollama/NAME"), or None."""
    provider, _, name = text.partition("/")
    return (
        PROVIDERS[provider].base_url
        if provider in SELF_HOSTED and name and not text.endswith(".gguf")
        else None
    )


def provider_at(base_url: str) -> str | None:
    """Return the provider with the address `base_url`, None for any other server."""
    return next((name for name, item in PROVIDERS.items() if item.base_url == base_url), None)


def is_provider_at(provider: str, base_url: str) -> bool:
    """Return whether `base_url` is the address of the provider."""
    return provider in PROVIDERS and PROVIDERS[provider].base_url == base_url
