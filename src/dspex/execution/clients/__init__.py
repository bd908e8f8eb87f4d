"""Language models behind one small protocol, and wrappers that add behaviour to any of them."""

from dspex.execution.clients.language_model import Capability, LanguageModel, Request, Response
from dspex.execution.clients.local import GEMMA_TERMS, LocalModel, packaged_model
from dspex.execution.clients.openai import OpenAIModel
from dspex.execution.clients.prices import Price, price_of
from dspex.execution.clients.retrying import Retrying

__all__ = [
    "GEMMA_TERMS",
    "Capability",
    "LanguageModel",
    "LocalModel",
    "OpenAIModel",
    "Price",
    "Request",
    "Response",
    "Retrying",
    "packaged_model",
    "price_of",
]
