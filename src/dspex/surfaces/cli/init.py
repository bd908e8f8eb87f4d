"""`dspex init NAME`: create a small project."""

from pathlib import Path

import click

from dspex.errors import ConflictError, InvalidError, StorageError
from dspex.surfaces.cli.output import json_option, show_json

PROGRAM = '''\
"""Sort customers' messages by the team that can solve them."""

from typing import Literal

import dspex


class Triage(dspex.Signature):
    """Route a customer's message to the team that can solve it."""

    message: str
    team: Literal["cards", "payments", "account"] = dspex.Output(desc="who should answer")


triage = dspex.Predict(Triage)
'''
DATA = """\
message,team
The machine kept my card,cards
My transfer has not arrived,payments
I cannot log in any more,account
Where is the new card you promised?,cards
I was charged twice for one purchase,payments
Please change my address,account
"""
CONFIGURATION = """\
# The default model; other choices: "openai/gpt-4o-mini", "http://host/v1#name", "model.gguf"
model = "local/gemma3-270m"
"""
FILES = {
    "program.py": PROGRAM,
    "data.csv": DATA,
    "dspex.toml": CONFIGURATION,
    ".gitignore": ".dspex/\n",
}


@click.command("init")
@click.argument("name")
@json_option
def init_command(*, name: str, as_json: bool) -> int:
    """Create the folder NAME with a program, data and a configuration."""
    folder = Path(name)
    if folder.name in {"", ".", ".."}:
        raise InvalidError(f"{name!r} cannot be the name of a new folder")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConflictError(f"{name!r} exists and is not empty; choose another name")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in FILES.items():
            (folder / file).write_text(text, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"cannot write to {name!r}: {error}") from error
    commands = [
        f"cd {name}",
        'dspex run program.py:triage message="My card is broken"',
        "dspex eval program.py:triage data.csv --metric exact_match",
        "dspex serve",
    ]
    if as_json:
        show_json({"folder": str(folder), "files": list(FILES), "commands": commands})
    else:
        click.echo(
            f"created {name}/ with {', '.join(FILES)}. Next:\n"
            + "\n".join(f"  {line}" for line in commands)
        )
    return 0
