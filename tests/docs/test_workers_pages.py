"""The pages on workers and dspy: their examples run, each in a process of its own, and print what the page says."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
EXAMPLE = re.compile(r"```python\n(.*?)```\n\n```output\n(.*?)```", re.DOTALL)


def examples(page):
    return EXAMPLE.findall((DOCS / page).read_text(encoding="utf-8"))


def check(page, number):
    code, expected = examples(page)[number]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.returncode) == (expected, 0), done.stderr


@pytest.mark.bridge
@pytest.mark.parametrize("number", [0, 1])
def test_the_examples_on_workers_print_what_the_page_says(number):
    assert len(examples("workers.md")) == 2
    check("workers.md", number)


@pytest.mark.full
@pytest.mark.skipif(importlib.util.find_spec("dspy") is None, reason="pip install 'dspex[dspy]'")
def test_the_example_on_dspy_prints_what_the_page_says():
    assert len(examples("dspy.md")) == 1
    check("dspy.md", 0)
