"""The page on databases.

Its Python runs, its commands exist, and its messages are those of the code.
"""

import contextlib
import io
import re
import sys
from pathlib import Path

import pytest

from dspex.surfaces.cli.main import cli

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "databases.md").read_text(encoding="utf-8")


def test_every_block_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "path", list(sys.path))
    names: dict[str, object] = {"__name__": "a_page"}
    for block, expected in re.findall(
        r"```python\n(.*?)```(?:\n\n```output\n(.*?)```)?", PAGE, re.DOTALL
    ):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(block, "databases.md", "exec"), names)  # noqa: S102  # a page of ours
        assert printed.getvalue() == expected
    assert "domain" in names
    sys.modules.pop("tickets", None)


def test_every_command_on_the_page_exists() -> None:
    commands = set(re.findall(r"^dspex (\w+)", PAGE, re.MULTILINE))
    with cli.make_context("dspex", ["doctor"]) as context:
        assert commands - {"ticket"} <= set(cli.list_commands(context))


@pytest.mark.full
def test_the_refusal_reads_as_on_the_page(
    empty_postgres_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from dspex.surfaces.cli import main

    monkeypatch.setenv("DSPEX_DATABASE_URL", empty_postgres_url)
    for arguments in (["db", "migrate", "--to", "0001"], ["program", "list"]):
        with pytest.raises(SystemExit):
            main(arguments)
    message = capsys.readouterr().err.strip().splitlines()[-1]
    example = re.search(r"```text\n(.*?)\n```", PAGE, re.DOTALL)
    assert example is not None
    assert re.sub(r"'[^']*'", "'...'", message) == re.sub(r"'[^']*'", "'...'", example.group(1))
