"""The page on people in the loop: its commands and blocks run in order and print what it says."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.command_server import run_dspex

PAGE = Path(__file__).parents[2] / "docs" / "people-in-the-loop.md"
BLOCK = re.compile(
    r"```(python|sh)(?: file=(\S+))?\n(.*?)```(?:\n\n[^`]*?```output\n(.*?)```)?", re.DOTALL
)


def plain(text: str) -> str:
    text = re.sub(r"\b(?=[0-9a-f]*\d)[0-9a-f]{8}\b", "ID", text)
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "TIME", text)
    text = re.sub(r" {2,}[\d.]+ {2,}", "  MS  ", text)
    text = re.sub(" {2,}", "  ", text)
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


@pytest.mark.full
def test_the_blocks_on_people_print_what_the_page_says(tmp_path: Path) -> None:
    blocks = BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    assert len([expected for *_, expected in blocks if expected]) >= 3
    name = ""
    for kind, file, text, expected in blocks:
        if file:
            (tmp_path / file).write_text(text)
            continue
        if kind == "python":
            command = [sys.executable, "-c", text]
            process = subprocess.run(
                command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
            )
            assert process.returncode == 0, process.stderr
        else:
            for line in text.splitlines():
                words = [name if word == "ID" else word for word in shlex.split(line)]
                process = run_dspex(tmp_path, *words[1:])
                assert process.returncode == 0, f"{line}\n{process.stderr}"
        if ids := re.findall(r"\b(?=[0-9a-f]*\d)[0-9a-f]{8}\b", process.stdout):
            name = ids[-1]
        if expected:
            assert plain(process.stdout) == plain(expected)
