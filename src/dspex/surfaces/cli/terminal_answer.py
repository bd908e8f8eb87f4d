"""Answers to the questions of programs, typed at the terminal."""

import sys
from collections.abc import Mapping
from typing import Any

import click

from dspex.errors import InputError
from dspex.execution.question import Question
from dspex.language.signatures import Field, Signature
from dspex.language.signatures.string_form import field_text
from dspex.surfaces.cli.output import fields_text
from dspex.surfaces.cli.values import parse_value
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
    """Show the inputs of a question, and ask for its outputs until they fit.

    An empty line leaves the default of a field. After a mistake, only the fields that do not fit
    are asked for again.
    """
    click.echo(f"\n{click.style('question', bold=True)}\n{fields_text(inputs)}", err=True)
    fields = signature.output_fields
    values: dict[str, Any] = {}
    names = list(fields)
    while True:
        for name in names:
            _read(fields[name], values)
        try:
            answer: dict[str, Any] = signature.validate_outputs(values)
        except InputError as error:
            for problem in error.fields:
                click.echo(f"  {problem.path}: {problem.message}", err=True)
            unfit = {problem.field for problem in error.fields}
            names = [name for name in fields if name in unfit] or list(fields)
        else:
            return answer


def _read(field: Field, values: dict[str, Any]) -> None:
    """Ask for the value of a field; text is taken as it is, anything else may be JSON."""
    text: str = click.prompt(
        field_text(field, full=False), default="", show_default=False, err=True
    )
    values.pop(field.name, None)
    if text or field.is_required:
        values[field.name] = parse_value(text, field.type)
