"""The page on the command line: its commands run, and its verbs exist."""

import re
from pathlib import Path

import click
import pytest

from dspex.surfaces.cli.main import cli, command_modules
from tests.support.tour import printed

PAGE = Path(__file__).parents[2] / "docs" / "command-line.md"


@pytest.mark.full
def test_every_step_runs(tmp_path: Path) -> None:
    steps = list(printed(PAGE, tmp_path))
    assert len(steps) == 1
    assert "capitals" in steps[0][1]


@pytest.mark.full
def test_every_verb_on_the_page_exists() -> None:
    text = PAGE.read_text(encoding="utf-8")
    calls = re.findall(r"dspex (\w+) (\w+)", text)
    with cli.make_context("dspex", ["doctor"]) as context:
        for noun, verb in calls:
            if noun == "ticket":  # of examples/own_resource
                continue
            command = cli.get_command(context, noun)
            assert command is not None, noun
            if isinstance(command, click.Group):
                assert verb in command.list_commands(context), (noun, verb)


def test_the_page_names_every_daily_command() -> None:
    text = PAGE.read_text(encoding="utf-8")
    named = {name for name in command_modules() if f"dspex {name}" in text}
    assert named >= {"run", "prompt", "eval", "optimize", "push", "serve", "init", "doctor", "do"}
