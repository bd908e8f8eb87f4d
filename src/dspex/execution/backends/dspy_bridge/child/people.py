"""`dspex.ask` in a dspy module of a user: the parent answers, if the module imports dspex."""

import importlib
import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Any


def answering(call: Any) -> "AbstractContextManager[Any]":
    """Return a context in which questions of the program go to the parent of the call."""
    if "dspex" not in sys.modules:
        return nullcontext()
    parent = importlib.import_module("dspex.execution.backends.parent").Parent(call)
    context = importlib.import_module("dspex.execution.context")
    return context.use_context(context.current().answered_by(parent.answer))
