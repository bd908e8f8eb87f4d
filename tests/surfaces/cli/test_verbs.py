"""The verbs that are derived from actions: their names, and the help of their options."""

import json
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from dspex.operations.domain import DOMAIN
from dspex.surfaces.cli import main
from dspex.surfaces.cli.main import cli
from dspex.surfaces.cli.nouns import all_nouns, other_group
from dspex.surfaces.cli.references import noun_of
from dspex.surfaces.cli.verbs import noun_and_verb

OWN = """
from dataclasses import dataclass
from dspex.operations.domain import DOMAIN as BUILT_IN
from dspex.operations.framework.action import action
from dspex.operations.framework.operations import Operations
from dspex.operations.programs.records import PROGRAM, ProgramRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Praise:
    name: str
    words: int = 0
    tone: str = "warm"
    reasons: list[int] | None = None
    loud: bool = False


@action(PROGRAM, scope="read")
async def praise_program(operations: Operations, request: Praise) -> ProgramRecord:
    "Praise a program."


DOMAIN = BUILT_IN.extended(actions=(praise_program,))
"""


def commands(command: click.Command, *path: str) -> Iterator[tuple[str, click.Command]]:
    if not isinstance(command, click.Group):
        yield " ".join(path), command
        return
    context = click.Context(command, info_name=path[-1] if path else "dspex")
    for name in command.list_commands(context):
        child = command.get_command(context, name)
        assert child is not None
        yield from commands(child, *path, name)


def all_commands() -> dict[str, click.Command]:
    """Return the commands by name, with those of resources that the first help page leaves out."""
    every = dict(commands(cli))
    for noun in all_nouns():
        every.update(commands(other_group(noun) or click.Group(), noun))
    return every | dict(commands(cli))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("folder")
def test_every_command_and_every_option_has_help() -> None:
    missing = []
    every = all_commands()
    assert len(every) > 120
    for path, command in every.items():
        missing += [] if command.help else [path]
        missing += [
            f"{path} {parameter.opts[0]}"
            for parameter in command.params
            if isinstance(parameter, click.Option) and not parameter.help
        ]
    assert missing == []


@pytest.mark.usefixtures("folder")
def test_every_action_is_a_verb_of_what_it_acts_on() -> None:
    every = all_commands()
    names = {word for each in DOMAIN.values() for word in (each.name, each.plural)}
    for action in DOMAIN.actions:
        resource, verb = noun_and_verb(action, DOMAIN)
        noun = noun_of(resource)
        assert {f"{noun} {verb}", f"{noun.partition('-')[0]} {verb}"} & every.keys()
        assert verb.startswith("from-") or not {*verb.split("-")[1:]} & names, verb
    assert {"program execute", "collection rebuild", "trial promote", "key create"} <= every.keys()
    assert "execution execute-program" not in every
    arguments = [each.name for each in every["program execute"].params if each.required]
    assert arguments == ["program", "inputs"]


@pytest.mark.usefixtures("folder")
def test_options_have_the_sentences_of_the_fields(capsys: pytest.CaptureFixture[str]) -> None:
    every = all_commands()
    options = {
        each.name: each.help
        for each in every["program create"].params
        if isinstance(each, click.Option)
    }
    assert options["module"] == (
        "A kind of module that needs no code, such as predict or chain_of_thought. "
        "Default: predict."
    )
    assert options["draft"] == (
        "The program is ready at once; a `draft` can run only after `dspex program initialize`."
    )
    assert str(options["configuration"]).endswith("to run it in a worker. JSON, or @FILE.")


def test_actions_that_the_settings_add_to_a_resource_of_dspex_are_verbs(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "praises.py").write_text(OWN)
    (folder / "dspex.toml").write_text('domain = "praises:DOMAIN"\n')
    monkeypatch.syspath_prepend(folder)
    with pytest.raises(SystemExit):
        main(["program", "--help"])
    assert "Praise a program." in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["program", "praise", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    for part in (
        "--words INTEGER A whole number. Default: 0.",
        "--tone TEXT A text. Default: warm.",
        "--reasons TEXT JSON, or @FILE.",
        "--loud Off by default.",
    ):
        assert part in text, text


def test_every_list_is_an_object_with_rows_and_a_cursor_and_creates_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lists = [path.split() for path in all_commands() if path.endswith(" list")]
    assert len(lists) > 20
    for words in (*lists, ["inbox"]):
        with pytest.raises(SystemExit) as stop:
            main([*words, "--json"])
        value = json.loads(capsys.readouterr().out)
        assert stop.value.code == 0
        assert value.pop("next") is None, words
        assert all(rows == [] for rows in value.values()), words
    assert list(folder.iterdir()) == []
