"""Answers to the questions of programs, typed at the terminal."""

import sys
from collections.abc import Mapping
from typing import Any

import click

from dspex.errors import DspexError
from dspex.execution.question import Question
from dspex.language.signatures import Signature
from dspex.surfaces.cli.output import fields_text
from dspex.surfaces.cli.values import parse_fields
from dspex.sync import in_thread


def has_terminal() -> bool:
    """Return whether somebody can read and answer a question here."""
    return sys.stdin.isatty() and sys.stderr.isatty()


async def answer_at_terminal(question: Question) -> Mapping[str, Any]:
    """Return the answer to a question of a program; see `ask_at_terminal`."""
    return await in_thread(
        ask_at_terminal, signature=question.signature, inputs=dict(question.inputs)
    )


def ask_at_terminal(*, signature: Signature, inputs: dict[str, Any]) -> dict[str, Any]:
    """Show the inputs of a question, and ask for its outputs until they fit."""
    click.echo(f"\n{click.style('question', bold=True)}\n{fields_text(inputs)}", err=True)
    while True:
        texts = [f"{name}={_prompt(signature, name)}" for name in signature.output_fields]
        try:
            answer: dict[str, Any] = signature.validate_outputs(
                parse_fields(texts, signature.output_fields)
            )
        except DspexError as error:
            click.echo(error.message, err=True)
        else:
            return answer


def _prompt(signature: Signature, name: str) -> str:
    label = f"{name} ({signature.output_fields[name].type})"
    text: str = click.prompt(label, default="", show_default=False, err=True)
    return text
