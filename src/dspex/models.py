"""Models and embedders: clients, and wrappers around any of them.

A model string such as "openai/gpt-4o-mini" is enough in most places. Build a client for a custom
server, or to add caching, limits, retries, budgets or recording with a wrapper:
`Caching(Retrying(OpenAIModel("name", base_url="http://host/v1")))`. Embedders are wrapped by
`WrappedEmbedder` and `CachingEmbedder`.
"""

from dspex.execution.clients.anthropic import AnthropicModel
from dspex.execution.clients.budget import Budget
from dspex.execution.clients.budgeted import Budgeted
from dspex.execution.clients.caching import Caching, SharedResponses
from dspex.execution.clients.caching_embedder import CachingEmbedder
from dspex.execution.clients.cassette import Recording
from dspex.execution.clients.embedder import Embedder, EmbeddingKind, Embeddings
from dspex.execution.clients.fallback import Fallback
from dspex.execution.clients.gemini import GeminiModel
from dspex.execution.clients.gemini_embedder import GeminiEmbedder
from dspex.execution.clients.hashing_embedder import HashingEmbedder
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
from dspex.execution.clients.local_embedder import LocalEmbedder
from dspex.execution.clients.offline_embedder import OfflineEmbedder
from dspex.execution.clients.openai import OpenAIModel
from dspex.execution.clients.openai_embedder import OpenAIEmbedder
from dspex.execution.clients.redis_responses import RedisResponses
from dspex.execution.clients.responses import ResponsesModel
from dspex.execution.clients.retrying import Retrying
from dspex.execution.clients.routing.circuit import CircuitLimits
from dspex.execution.clients.routing.policies import RoutePolicy
from dspex.execution.clients.routing.route import Route
from dspex.execution.clients.wrapped_embedder import WrappedEmbedder
from dspex.language.records import Message

__all__ = [
    "GEMMA_TERMS",
    "AnthropicModel",
    "Budget",
    "Budgeted",
    "Caching",
    "CachingEmbedder",
    "Capability",
    "CircuitLimits",
    "Embedder",
    "EmbeddingKind",
    "Embeddings",
    "Fallback",
    "GeminiEmbedder",
    "GeminiModel",
    "HashingEmbedder",
    "LanguageModel",
    "Limiting",
    "LocalEmbedder",
    "LocalModel",
    "Message",
    "OfflineEmbedder",
    "OpenAIEmbedder",
    "OpenAIModel",
    "Recording",
    "RedisResponses",
    "Request",
    "Response",
    "ResponsesModel",
    "Retrying",
    "Route",
    "RoutePolicy",
    "SharedResponses",
    "StreamingModel",
    "ToolSpec",
    "WrappedEmbedder",
    "packaged_model",
]
