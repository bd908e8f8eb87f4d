"""Models: clients for language models, and wrappers around any of them.

Wrappers add caching, limits, retries, budgets or recording.
A model string such as "openai/gpt-4o-mini" is enough in most places; a client is built by hand for
a custom server or to be wrapped: `Caching(Retrying(OpenAIModel("name",
base_url="http://host/v1")))`.
"""

from dspex.execution.clients.anthropic import AnthropicModel
from dspex.execution.clients.budget import Budget
from dspex.execution.clients.budgeted import Budgeted
from dspex.execution.clients.caching import Caching
from dspex.execution.clients.cassette import Recording
from dspex.execution.clients.fallback import Fallback
from dspex.execution.clients.gemini import GeminiModel
from dspex.execution.clients.language_model import (
    Capability,
    LanguageModel,
    Request,
    Response,
    StreamingModel,
    ToolSpec,
)
from dspex.execution.clients.limiting import Limiting
from dspex.execution.clients.local import GEMMA_TERMS, LocalModel, packaged_model
from dspex.execution.clients.openai import OpenAIModel
from dspex.execution.clients.responses import ResponsesModel
from dspex.execution.clients.retrying import Retrying

__all__ = [
    "GEMMA_TERMS",
    "AnthropicModel",
    "Budget",
    "Budgeted",
    "Caching",
    "Capability",
    "Fallback",
    "GeminiModel",
    "LanguageModel",
    "Limiting",
    "LocalModel",
    "OpenAIModel",
    "Recording",
    "Request",
    "Response",
    "ResponsesModel",
    "Retrying",
    "StreamingModel",
    "ToolSpec",
    "packaged_model",
]
