"""The pages on workers and dspy.

Their examples run, each in a separate process, and print what the page says.
"""

import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.answering_server import AnsweringServer
from tests.support.command_server import run_dspex

DOCS = Path(__file__).parents[2] / "docs"
EXAMPLE = re.compile(r"```python\n(.*?)```\n\n```output\n(.*?)```", re.DOTALL)


def examples(page):
    return EXAMPLE.findall((DOCS / page).read_text(encoding="utf-8"))


def check(page, number):
    code, expected = examples(page)[number]
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (process.stdout, process.returncode) == (expected, 0), process.stderr


FILE = re.compile(r"```\w+ file=(\S+)\n(.*?)```", re.DOTALL)
SHELL = re.compile(r"```sh\n(.*?)```", re.DOTALL)
SAVE = """
import dspy, rag
rag.Rag().save('program.json')
dspy.ChainOfThought('question -> answer: int').save('adder.json')
"""


def follow(page, folder, model):
    """Write the files of a page and run its `dspex` commands in order, as a shell would.

    Return what they printed.
    """
    text = (DOCS / page).read_text(encoding="utf-8")
    for name, content in FILE.findall(text):
        (folder / name).write_text(content)
    if page == "dspy.md":
        subprocess.run([sys.executable, "-c", SAVE], cwd=folder, check=True, timeout=120)
    printed = []
    for line in "\n".join(SHELL.findall(text)).splitlines():
        words = shlex.split(line, comments=True)
        settings = {"DSPEX_MODEL": model}
        while words and words[0].startswith("DSPEX_"):
            name, _, value = words.pop(0).partition("=")
            settings[name] = value
        if not words or words[0] != "dspex":
            continue
        command, _, then = " ".join(map(shlex.quote, words[1:])).partition(" '&&' cd ")
        process = run_dspex(folder, *shlex.split(command), **settings)
        assert process.returncode == 0, f"{line}\n{process.stderr}"
        printed.append(process.stdout)
        folder = folder / then
    return printed


@pytest.mark.bridge
def test_the_commands_on_workers_run(tmp_path):
    with AnsweringServer({}) as server:
        here, remote, again, workers = follow("workers.md", tmp_path, server.model)
    assert len({here, remote, again}) == 3
    assert "no worker is running" in workers


@pytest.mark.full
@pytest.mark.skipif(importlib.util.find_spec("dspy") is None, reason="pip install 'dspex[dspy]'")
def test_the_commands_on_dspy_run(tmp_path):
    with AnsweringServer(
        {"query": "q", "reasoning": "r", "answer": 4, "team": "lost card"}
    ) as server:
        printed = follow("dspy.md", tmp_path, server.model)
    assert printed[0] == "Rag: version 1 (question, reasoning, answer)\n"
    assert printed[1] == "reasoning: r\nanswer: 4\n"
    assert "exact_match" in printed[3]
    assert "0.500" in printed[3]
    assert printed[4:7] == [
        "Rag: version 2 (question, reasoning, answer)\n",
        "adder: version 1 (question, reasoning, answer)\n",
        "adder: unchanged, version 1 (question, reasoning, answer)\n",
    ]
    assert printed[8] == "team: lost card\n"


@pytest.mark.bridge
@pytest.mark.parametrize("number", [0, 1])
def test_the_examples_on_workers_print_what_the_page_says(number):
    assert len(examples("workers.md")) == 2
    check("workers.md", number)


@pytest.mark.full
@pytest.mark.skipif(importlib.util.find_spec("dspy") is None, reason="pip install 'dspex[dspy]'")
def test_the_example_on_dspy_prints_what_the_page_says():
    assert len(examples("dspy.md")) == 2
    check("dspy.md", 0)
    check("dspy.md", 1)
