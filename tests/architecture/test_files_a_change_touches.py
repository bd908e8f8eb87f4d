"""Each test makes a change as a developer would, and counts the files that it touches."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import dspex
import dspex.surfaces.cli as cli_package
from dspex.surfaces.cli.main import cli

COMMAND = '''
"""`dspex greet`: greet the user."""

import click


@click.command("greet")
def greet_command() -> int:
    """Greet the user."""
    click.echo("hello")
    return 0
'''
NOTES = '''
"""Notes of users."""

from dataclasses import dataclass

from dspex.operations.framework.action import action
from dspex.operations.framework.operations import Operations
from dspex.operations.framework.resource import Resource, Row
from dspex.operations.framework.store import Insert


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteRecord(Row):
    """A note."""

    text: str


NOTE = Resource(name="note", plural="notes", entity=NoteRecord)


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteNote:
    """Write a note."""

    text: str


@action(NOTE, scope="write")
async def write_note(operations: Operations, input: WriteNote) -> NoteRecord:
    """Write a note."""
    note = NoteRecord(**operations.new_row(), text=input.text)
    await operations.store.write(Insert(note))
    return note
'''
MIGRATION = '''
"""Notes."""

import sqlalchemy as sa
from alembic import op

revision = "9999"
down_revision = "{previous}"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "notes",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("workspace", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("lock_version", sa.Integer(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_notes"),
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_table("notes")
'''
READ_SURFACES = """
import json
from dspex.operations.domain import DOMAIN
from dspex.surfaces.api.graphql import make_schema
from dspex.surfaces.api.rest import openapi
schema, paths = make_schema(DOMAIN).as_str(), openapi(DOMAIN)["paths"]
print(json.dumps({
    "graphql": ["type Note implements Node" in schema, "writeNote(" in schema],
    "rest": ["/v1/notes" in paths, "/v1/actions/write_note" in paths],
}))
"""


def test_a_command_touches_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "greet.py").write_text(COMMAND)
    monkeypatch.setattr(cli_package, "__path__", [*cli_package.__path__, str(tmp_path)])
    context = cli.make_context("dspex", ["greet"])
    assert "greet" in cli.list_commands(context)
    assert "Greet the user." in cli.get_help(context)
    with context:
        assert cli.invoke(context) == 0


@pytest.mark.full
def test_a_resource_touches_two_files_and_its_migration(tmp_path: Path) -> None:
    package = tmp_path / "dspex"
    shutil.copytree(Path(dspex.__file__).parent, package)
    (package / "operations/notes.py").write_text(NOTES)
    domain = package / "operations/domain.py"
    text = domain.read_text()
    text = text.replace("\nDOMAIN", "\nfrom dspex.operations import notes\nDOMAIN", 1)
    text = text.replace("    PROCESS,\n", "    PROCESS,\n    notes.NOTE,\n")
    domain.write_text(
        text.replace("        tenancy_actions,\n", "        tenancy_actions,\n        notes,\n")
    )
    versions = package / "operations/storage/migrations/versions"
    previous = max(file.stem for file in versions.glob("[0-9]*.py"))[:4]
    (versions / "9999_notes.py").write_text(MIGRATION.format(previous=previous))

    def run(*command: str) -> str:
        environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
        result = subprocess.run(
            [sys.executable, *command],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    note = json.loads(run("-m", "dspex", "do", "write_note", "text=hello"))
    assert note["text"] == "hello"
    (row,) = json.loads(run("-m", "dspex", "note", "list", "--json"))["notes"]
    assert row["id"] == note["id"]
    surfaces = json.loads(run("-c", READ_SURFACES))
    assert surfaces == {"graphql": [True, True], "rest": [True, True]}
