"""Language model clients behind one protocol, and wrappers that add behaviour to any of them."""

from dspex.execution.clients.budget import Budget
from dspex.execution.clients.budgeted import Budgeted, ask_within
from dspex.execution.clients.language_model import (
    Capability,
    Emit,
    LanguageModel,
    Request,
    Response,
    StreamingModel,
    ToolSpec,
    ask,
)
from dspex.execution.clients.local import GEMMA_TERMS, LocalModel, packaged_model
from dspex.execution.clients.openai import OpenAIModel
from dspex.execution.clients.retrying import Retrying

__all__ = [
    "GEMMA_TERMS",
    "Budget",
    "Budgeted",
    "Capability",
    "Emit",
    "LanguageModel",
    "LocalModel",
    "OpenAIModel",
    "Request",
    "Response",
    "Retrying",
    "StreamingModel",
    "ToolSpec",
    "ask",
    "ask_within",
    "packaged_model",
]
