"""`dspex init NAME`: create a small project."""

from importlib.util import find_spec
from pathlib import Path

import click

from dspex.errors import ConflictError, InvalidError, StorageError
from dspex.surfaces.cli.output import json_option, say, show_json
from dspex.surfaces.cli.text_width import wrap_prose

_TEMPLATES = Path(__file__).parent / "templates"
_IGNORED = ".dspex/\n__pycache__/\n"


def read_template(name: str) -> dict[str, str]:
    """Return the files of a template by name; README.md has its summary and the lines to type."""
    folder = _TEMPLATES / name
    files = sorted(file for file in folder.iterdir() if file.is_file())
    texts = {file.name: file.read_text(encoding="utf-8") for file in files}
    return {**texts, ".gitignore": _IGNORED}


def _summary(name: str) -> str:
    return read_template(name)["README.md"].split("\n\n")[1].rstrip(".")


def _commands(readme: str) -> list[str]:
    return readme.partition("```sh\n")[2].partition("```")[0].splitlines()


def _template_option() -> click.Option:
    names = sorted(folder.name for folder in _TEMPLATES.iterdir())
    return click.Option(
        ["--template"],
        type=click.Choice(names),
        default="triage",
        show_default=True,
        help="; ".join(f"{name}: {_summary(name)}" for name in names) + ".",
    )


@click.command("init", params=[_template_option()])
@click.argument("name")
@json_option
def init_command(*, name: str, template: str, as_json: bool) -> int:
    """Create the folder NAME with a program, data, a test and a configuration."""
    folder, files = Path(name), read_template(template)
    if folder.name in {"", ".", ".."}:
        raise InvalidError(f"{name!r} cannot be the name of a new folder")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConflictError(f"{name!r} exists and is not empty; choose another name")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in files.items():
            (folder / file).write_text(text, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"cannot write to {name!r}: {error}") from error
    commands = [f"cd {name}", *_commands(files["README.md"])]
    if as_json:
        show_json({"folder": str(folder), "files": list(files), "commands": commands})
    else:
        click.echo(wrap_prose(f"created {name}/ with {', '.join(files)}. Next:"))
        click.echo("\n".join(f"  {line}" for line in commands))
        if find_spec("pytest") is None:
            say("pytest is not installed: pip install 'dspex[test]'")
    return 0
