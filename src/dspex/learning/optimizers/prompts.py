"""What the predictors of a program say to the model, before and after a search."""

import difflib
from collections.abc import Mapping
from typing import Any

from dspex.errors import DspexError
from dspex.execution.adapters import ChatAdapter
from dspex.execution.modules import Module, Predict
from dspex.language.records import Example


def prompts(module: Module, example: Example | None = None) -> dict[str, str]:
    """Return the prompt of each predictor by its path, laid out by its own adapter, or for chat.

    Inputs come from `example`; what it does not have, such as the output of an earlier step, is shown as `{name}`.
    """
    return {path: _prompt(part, example or Example()) for path, part in module.named_modules() if _is_predict(part)}


def _is_predict(part: Module) -> bool:
    return isinstance(part, Predict)


def _prompt(part: Any, example: Mapping[str, Any]) -> str:  # noqa: ANN401  # a Predict
    adapter = part.adapter or ChatAdapter()
    shown = {name: example.get(name, f"{{{name}}}") for name in part.signature.input_fields}
    try:
        messages = adapter.render(part.signature, part.demos, shown).messages
    except DspexError:  # a placeholder does not suit the type of its field
        messages = adapter.render(part.signature, part.demos, {}).messages
    return "\n\n".join(f"--- {message.role} ---\n{message.content}" for message in messages)


def prompt_diff(before: Module, after: Module, example: Example | None = None) -> str:
    """Return how the prompts differ, predictor by predictor, as unified diffs; empty where none does."""
    old, new = prompts(before, example), prompts(after, example)
    found: list[str] = []
    for path in dict.fromkeys((*old, *new)):
        one, other = old.get(path, "").splitlines(), new.get(path, "").splitlines()
        found += difflib.unified_diff(one, other, f"{path}, before", f"{path}, after", lineterm="", n=2)
    return "\n".join(found)
