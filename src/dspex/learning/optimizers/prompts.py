"""What the predictors of a program say to the model, before and after a search."""

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from dspex.errors import DspexError
from dspex.execution.adapters import ChatAdapter
from dspex.execution.modules import Module, Predict
from dspex.language.programs import Program
from dspex.language.records import Example
from dspex.learning.evaluation import Backed


def prompts(module: Module, example: Example | None = None) -> dict[str, str]:
    """Return the prompt of each predictor by its path, laid out by its own adapter, or for chat.

    Inputs come from `example`; what it does not have, such as the output of an earlier step, is shown as `{name}`.
    Those of a program that runs elsewhere are shown as they would be laid out here.
    """
    return {path: _prompt(part, example or Example()) for path, part in _predictors(module)}


def _predictors(module: Module) -> Iterator[tuple[str, Predict]]:
    for path, part in module.named_modules():
        if isinstance(part, Predict):
            yield path, part
        elif isinstance(part, Backed):
            yield from _elsewhere(part.to_program())


def _elsewhere(program: Program) -> Iterator[tuple[str, Predict]]:
    known = {name: value for name, value in program.assignment.items() if name in program.space}
    values = dict(program.space.bound(known))
    for node in program.root.walk():
        if node.kind == "predict" and node.signature is not None:
            told = values.get(f"{node.id}.instructions", node.signature.instructions)
            yield node.id, Predict(node.signature.with_instructions(told), demos=values.get(f"{node.id}.demos", ()))


def _prompt(part: Predict, example: Mapping[str, Any]) -> str:
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
