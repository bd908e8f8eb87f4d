"""The providers that model strings name, with their addresses and key variables."""

from typing import Final

# provider -> (base URL, environment variable of its key or None); OpenAI-compatible except the last
# two
PROVIDERS: Final[dict[str, tuple[str, str | None]]] = {
    "openai": ("https://api.openai.com/v1", "OPENAI_API_KEY"),
    "openrouter": ("https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
    "groq": ("https://api.groq.com/openai/v1", "GROQ_API_KEY"),
    "deepseek": ("https://api.deepseek.com/v1", "DEEPSEEK_API_KEY"),
    "mistral": ("https://api.mistral.ai/v1", "MISTRAL_API_KEY"),
    "together": ("https://api.together.xyz/v1", "TOGETHER_API_KEY"),
    "fireworks": ("https://api.fireworks.ai/inference/v1", "FIREWORKS_API_KEY"),
    "ollama": ("http://127.0.0.1:11434/v1", None),
    "anthropic": ("https://api.anthropic.com/v1", "ANTHROPIC_API_KEY"),
    "gemini": ("https://generativelanguage.googleapis.com/v1beta", "GEMINI_API_KEY"),
}

SELF_HOSTED: Final = frozenset({"ollama"})
"""Providers whose address is a server of the operator, not a public service."""


def self_hosted_url(text: str) -> str | None:
    """Return the URL of the self-hosted server in a model string ("ollama/NAME"), or None."""
    provider, _, name = text.partition("/")
    return (
        PROVIDERS[provider][0]
        if provider in SELF_HOSTED and name and not text.endswith(".gguf")
        else None
    )


def provider_at(base_url: str) -> str | None:
    """Return the provider with the address `base_url`, None for any other server."""
    return next((name for name, (address, _) in PROVIDERS.items() if address == base_url), None)


def is_provider_at(provider: str, base_url: str) -> bool:
    """Return whether `base_url` is the address of the provider."""
    return provider in PROVIDERS and PROVIDERS[provider][0] == base_url
