"""The prompts of a program, before and after a search."""

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from dspex.errors import DspexError
from dspex.execution.adapters import ChatAdapter
from dspex.execution.backends import BackendModule
from dspex.execution.modules import Module, Predict
from dspex.language.programs import Program
from dspex.language.records import Example


def prompts(module: Module, example: Example | None = None) -> dict[str, str]:
    """Return the prompt of each predictor by path, rendered by its own adapter or the chat adapter.

    Inputs come from `example`; a missing input, such as the output of an earlier step, is shown as
    `{name}`. Prompts of a program on another backend are rendered as they would be here.
    """
    return {path: _prompt(part, example or Example()) for path, part in _predictors(module)}


def program_prompts(program: Program, example: Example | None = None) -> dict[str, str]:
    """Return the prompt of each predictor of a stored program, as `prompts` does of a module."""
    return {path: _prompt(part, example or Example()) for path, part in _elsewhere(program)}


def _predictors(module: Module) -> Iterator[tuple[str, Predict]]:
    for path, part in module.named_modules():
        if isinstance(part, Predict):
            yield path, part
        elif isinstance(part, BackendModule):
            yield from _elsewhere(part.to_program())


def _elsewhere(program: Program) -> Iterator[tuple[str, Predict]]:
    assignment = {
        name: value for name, value in program.assignment.items() if name in program.space
    }
    values = dict(program.space.bound(assignment))
    for node in program.root.walk():
        if node.kind == "predict" and node.signature is not None:
            instructions = values.get(f"{node.id}.instructions", node.signature.instructions)
            yield (
                node.id,
                Predict(
                    node.signature.with_instructions(instructions),
                    demos=values.get(f"{node.id}.demos", ()),
                ),
            )


def _prompt(part: Predict, example: Mapping[str, Any]) -> str:
    adapter = part.adapter or ChatAdapter()
    inputs = {name: example.get(name, f"{{{name}}}") for name in part.signature.input_fields}
    try:
        messages = adapter.render(part.signature, part.demos, inputs).messages
    except DspexError:  # a placeholder does not suit the type of its field
        messages = adapter.render(part.signature, part.demos, {}).messages
    return "\n\n".join(f"--- {message.role} ---\n{message.text}" for message in messages)


def prompt_diff(before: Module, after: Module, example: Example | None = None) -> str:
    """Return unified diffs of the prompts, predictor by predictor; empty if they are equal."""
    old, new = prompts(before, example), prompts(after, example)
    lines: list[str] = []
    for path in dict.fromkeys((*old, *new)):
        old_lines, new_lines = old.get(path, "").splitlines(), new.get(path, "").splitlines()
        lines += difflib.unified_diff(
            old_lines, new_lines, f"{path}, before", f"{path}, after", lineterm="", n=2
        )
    return "\n".join(lines)
