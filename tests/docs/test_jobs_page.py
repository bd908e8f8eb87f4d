"""The page on jobs: its commands run in order and print what it says."""

import re
import shlex
from pathlib import Path

import pytest

from tests.support.command_server import run_dspex

PAGE = Path(__file__).parents[2] / "docs" / "jobs.md"
FILE = re.compile(r"```\w+ file=(\S+)\n(.*?)```", re.DOTALL)
STEP = re.compile(r"```sh\n(.*?)```(?:\n\n[^`]*?```output\n(.*?)```)?", re.DOTALL)


def plain(text: str) -> str:
    text = re.sub(r"[0-9a-f]{8}$", "ID", text, flags=re.MULTILINE)
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "TIME", text)
    text = re.sub(" {2,}", "  ", text)
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


@pytest.mark.full
def test_the_commands_on_jobs_print_what_the_page_says(tmp_path):
    text = PAGE.read_text(encoding="utf-8")
    for name, content in FILE.findall(text):
        (tmp_path / name).write_text(content)
    steps = STEP.findall(text)
    assert len([expected for _, expected in steps if expected]) == 4
    for commands, expected in steps:
        for line in commands.splitlines():
            words = shlex.split(line)
            assert words[0] == "dspex"
            process = run_dspex(tmp_path, *words[1:])
            assert process.returncode == 0, f"{line}\n{process.stderr}"
        if expected:
            assert plain(process.stdout) == plain(expected)
